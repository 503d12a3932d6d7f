# Go: a static and a cgo binary; goroutines, the collector, timers, signals, processes.
export HOME=/tmp/home GOFLAGS=-mod=mod GO111MODULE=off GOCACHE=/tmp/gocache; mkdir -p $HOME /tmp/go; cd /tmp/go
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sort"
	"sync"
	"syscall"
	"time"
)

func main() {
	var wg sync.WaitGroup
	results := make(chan int, 100)
	for i := 0; i < 2000; i++ {
		wg.Add(1)
		go func(i int) { defer wg.Done(); runtime.Gosched(); results <- i * i }(i)
	}
	sum := 0
	done := make(chan bool)
	go func() { for v := range results { sum += v }; done <- true }()
	wg.Wait(); close(results); <-done
	fmt.Println("sum", sum)
	keep := map[int][]byte{}
	for i := 0; i < 20000; i++ { keep[i%100] = make([]byte, 4096) }
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Println("collected", stats.NumGC > 0, len(keep))
	order := []int{}
	var lock sync.Mutex
	for _, d := range []int{60, 20, 40} { d := d; wg.Add(1); time.AfterFunc(time.Duration(d)*time.Millisecond, func() { lock.Lock(); order = append(order, d); lock.Unlock(); wg.Done() }) }
	wg.Wait(); fmt.Println("timers", order)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond); defer cancel()
	fmt.Println(exec.CommandContext(ctx, "sleep", "10").Run())
	out, err := exec.Command("sh", "-c", "echo from a child; exit 3").Output(); fmt.Printf("%q %v\n", out, err)
	c := make(chan os.Signal, 1); signal.Notify(c, syscall.SIGUSR1); syscall.Kill(os.Getpid(), syscall.SIGUSR1); fmt.Println(<-c)
	func() { defer func() { fmt.Println("recovered", recover()) }(); var p *int; fmt.Println(*p) }()
	tight := make(chan bool); stop := false
	go func() { for n := 0; !stop; n++ { if n < 0 { fmt.Println() } }; tight <- true }()
	time.Sleep(50 * time.Millisecond); runtime.GC(); stop = true
	select { case <-tight: case <-time.After(time.Second): }; fmt.Println("preempted")
	names := []string{}; entries, _ := os.ReadDir("/usr/lib/go"); for _, e := range entries { names = append(names, e.Name()) }; sort.Strings(names); fmt.Println(names)
	r, w, _ := os.Pipe(); r.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); _, err = r.Read(make([]byte, 1)); fmt.Println(err); w.Close(); fmt.Println(runtime.NumCPU() > 0)
	os.WriteFile("/tmp/go/out", []byte("data"), 0600); info, _ := os.Stat("/tmp/go/out"); fmt.Println(info.Mode(), info.Size())
}
GO
CGO_ENABLED=0 go build -o static main.go && ./static; file -b static | cut -d, -f1-4
cat >cgo.go <<'GO'
package main

// #include <stdlib.h>
// #include <pthread.h>
// #include <stdio.h>
// static int add(int a, int b) { return a + b; }
// static void say(const char *s) { puts(s); fflush(stdout); }
import "C"
import "fmt"
import "os/user"

func main() {
	total := C.int(0)
	for i := 0; i < 1000; i++ { total = C.add(total, C.int(i)) }
	C.say(C.CString("from C"))
	u, err := user.Current(); fmt.Println(total, u.Username, err)
}
GO
go build -o cgo cgo.go && ./cgo; file -b cgo | cut -d, -f1-4
mkdir -p /tmp/home/go/src/m; cd /tmp/home/go/src/m; printf 'package m\nimport "testing"\nfunc TestIt(t *testing.T) { t.Log("ran") }\nfunc BenchmarkIt(b *testing.B) { for i := 0; i < b.N; i++ {} }\n' >m_test.go; go test -v . 2>&1 | sed 's/(.*//; s/[0-9.]*s$//'; go vet . ; echo $?
