// A ledger over HTTP with a goroutine for each connection; ledger.py says what it does.
package main

import (
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"

	crypto "crypto/rand"
)

var (
	entries []string
	lock    sync.Mutex
	file    *os.File
)

func add(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	lock.Lock()
	defer lock.Unlock()
	entries = append(entries, string(text))
	fmt.Fprintf(file, "%s\n", text)
	fmt.Fprint(w, len(entries))
}

func list(w http.ResponseWriter, _ *http.Request) {
	lock.Lock()
	text := strings.Join(entries, "\n") + "\n"
	lock.Unlock()
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	io.WriteString(w, text)
}

func chance(w http.ResponseWriter, _ *http.Request) {
	var bytes [8]byte
	crypto.Read(bytes[:])
	words := map[int]int{}
	for number := 0; number < 10; number++ {
		words[number] = number
	}
	order := []int{}
	for number := range words { // in an order that the runtime draws
		order = append(order, number)
	}
	stack := make([]byte, 4096)
	stack = stack[:runtime.Stack(stack, false)]
	fmt.Fprint(w, rand.New(rand.NewSource(time.Now().UnixNano())).Int63(), bytes, order, time.Now().UnixNano(), os.Getpid(),
		runtime.NumCPU(), runtime.NumGoroutine(), strings.SplitN(string(stack), "\n", 2)[0], fmt.Sprintf("%p", &bytes))
}

func work(w http.ResponseWriter, _ *http.Request) {
	words := map[string]int{}
	parts := make(chan int)
	for part := 0; part < 4; part++ {
		go func(part int) {
			sum := 0
			for number := 0; number < 200000; number++ { // no call: only a signal stops it
				sum += number * part % 977
			}
			parts <- sum
		}(part)
	}
	for number := 0; number < 20000; number++ {
		words[fmt.Sprint("word ", number*31%977)] += number
	}
	keys := []string{}
	for key := range words {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	runtime.GC()
	fmt.Fprint(w, len(keys), <-parts+<-parts+<-parts+<-parts)
}

func main() {
	file, _ = os.OpenFile("ledger", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0644)
	http.HandleFunc("/add", add)
	http.HandleFunc("/list", list)
	http.HandleFunc("/chance", chance)
	http.HandleFunc("/work", work)
	fmt.Println(http.ListenAndServe(":"+os.Args[1], nil))
}
