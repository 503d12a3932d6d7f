# Lua: files, pipes, coroutines, memory.
cd /tmp; lua5.4 - a b <<'LUA'
print(...) local f = assert(io.open("x", "w")) for i = 1, 1000 do f:write(i, "\n") end f:close() local s = 0 for l in io.lines("x", "n") do s = s + l end print(s)
local p = io.popen("sort -rn x | head -n 2") print(p:read("a")) print(p:close()) print(os.execute("exit 3")) print(os.execute("kill -9 $$")) print(io.open("/no/such"))
local co = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) print(co(), co(), co())
local t = {} for i = 1, 200000 do t[i] = { i } end t = nil collectgarbage() print(collectgarbage("count") < 100000) print(os.rename("x", "y"), os.remove("y"), os.remove("y")) print(pcall(error, "e")) print(#string.rep("x", 1 << 20), os.time{year=2000, month=1, day=1, hour=0} > 0, os.getenv("NOTHING")) local h = io.tmpfile() h:write("tmp") h:seek("set", 1) print(h:read("a")) os.exit(5)
LUA
echo "status $?"; for i in 1 2 3 4; do lua5.4 -e "print($i, ('x'):rep($i))" & wait; done
