# Builds zlib with its configure script and make -j2, runs its own tests; builds Lua and runs it; C++ and a
# shared library.
export LC_ALL=C
cp -r /usr/src/programs/zlib-* /tmp/zlib; cd /tmp/zlib
./configure | grep -v '^Building\|^Checking for \(gcc\|obsessive\)'; make -j2 >/tmp/make.log 2>&1; echo "make: $?"; make check 2>&1 | grep -v '^gcc\|^cc\|^ar\|^rm\|^ln\|^ranlib\|^mv' | sort; ls *.a *.so.*; nm libz.a 2>/dev/null | grep -c ' T '
cp -r /usr/src/programs/lua5.4-* /tmp/lua; cd /tmp/lua/src; make -j2 posix MYCFLAGS=-DLUA_USE_POSIX >/tmp/make.log 2>&1; echo "make: $?"; ./lua -e 'local t = {} for i = 1, 1e5 do t[i] = i * i end print(#t, t[1e5], string.format("%q", "a\nb"), os.rename("x", "y"))'; ./luac -l - <<<'print(1)' | wc -l; strip lua; stat -c %a lua
cd /tmp; cat >a.cc <<'CC'
#include <iostream>
#include <map>
#include <stdexcept>
#include <thread>
#include <vector>
#include <mutex>
int main() {
	std::map<std::string, int> m; std::mutex lock; std::vector<std::thread> threads;
	for (int i = 0; i < 8; i++) threads.emplace_back([&, i] { for (int k = 0; k < 1000; k++) { std::lock_guard<std::mutex> g(lock); m["key" + std::to_string(k % 7)] += i; } });
	for (auto &t : threads) t.join();
	for (auto &e : m) std::cout << e.first << ' ' << e.second << '\n';
	try { throw std::runtime_error("thrown"); } catch (const std::exception &e) { std::cout << e.what() << '\n'; }
}
CC
g++ -O2 -pthread a.cc -o a && ./a; g++ -g -fsanitize=undefined -c a.cc -o /dev/null; echo $?
echo 'int twice(int x) { return 2 * x; }' >t.c; gcc -shared -fPIC t.c -o libt.so; echo 'int twice(int); int main(void) { return twice(21); }' >m.c; gcc m.c -L. -lt -Wl,-rpath,/tmp -o m; ./m; echo $?; gcc -static m.c t.c -o ms && ./ms; echo $?; echo 'int main(' | gcc -x c - 2>&1 | head -n 1; gcc -flto -O2 m.c t.c -o ml -save-temps && ./ml; echo $?; readelf -h m | grep Type; objdump -d ml | grep -c ret; gcc -M m.c; as --version | head -n 1; ld --version | head -n 1
