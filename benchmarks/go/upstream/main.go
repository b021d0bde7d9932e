// The destination behind every proxy: answers like an LLM API, as fast as it can.
//
//	POST /v1/chat/completions     a small JSON answer
//	POST /v1/stream?n=50&gap=20ms server-sent events, each with the time at which it was sent
//	GET  /bytes/1048576           so many bytes
//	POST /sink                    takes a body and answers with its length
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const event = `data: {"id":"chatcmpl-123","t":%d,"choices":[{"index":0,"delta":{"content":"token%d "}}]}` + "\n\n"

var answer = []byte(`{"id":"chatcmpl-123","object":"chat.completion","created":1700000000,"model":"mock",` +
	`"choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat("hello world ", 40) +
	`"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":80,"total_tokens":92}}`)

var block = make([]byte, 256<<10)

func complete(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	w.Write(answer)
}

func stream(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	count, err := strconv.Atoi(r.URL.Query().Get("n"))
	gap, err2 := time.ParseDuration(r.URL.Query().Get("gap"))
	if err != nil || err2 != nil {
		http.Error(w, "n and gap are needed", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flusher := w.(http.Flusher)
	for i := range count {
		if _, err := fmt.Fprintf(w, event, time.Now().UnixNano(), i); err != nil {
			return
		}
		flusher.Flush()
		if gap > 0 {
			time.Sleep(gap)
		}
	}
	io.WriteString(w, "data: [DONE]\n\n")
}

func bytes(w http.ResponseWriter, r *http.Request) {
	left, err := strconv.ParseInt(r.PathValue("size"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(left, 10))
	for left > 0 {
		n, err := w.Write(block[:min(left, int64(len(block)))])
		if err != nil {
			return
		}
		left -= int64(n)
	}
}

func sink(w http.ResponseWriter, r *http.Request) {
	received, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprint(w, received)
}

func main() {
	listen := flag.String("listen", "127.0.0.1:9101", "address")
	flag.Parse()
	http.HandleFunc("/v1/chat/completions", complete)
	http.HandleFunc("/v1/stream", stream)
	http.HandleFunc("/bytes/{size}", bytes)
	http.HandleFunc("/sink", sink)
	log.Fatal(http.ListenAndServe(*listen, nil))
}
