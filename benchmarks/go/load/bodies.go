package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

type zeros struct{}

func (zeros) Read(data []byte) (int, error) {
	clear(data)
	return len(data), nil
}

// One request, whose body is sent or asked for; whether it passed as a whole.
func pass(with *http.Client, url string, size int64, up bool) bool {
	method, body := "GET", io.Reader(nil)
	if up {
		method, body = "POST", io.LimitReader(zeros{}, size)
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return false
	}
	if up {
		request.ContentLength = size
	}
	response, err := with.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	if up {
		answer, err := io.ReadAll(response.Body)
		return err == nil && string(answer) == fmt.Sprint(size)
	}
	received, err := io.Copy(io.Discard, response.Body)
	return err == nil && received == size
}

func bodies(arguments []string) any {
	flags := flag.NewFlagSet("bodies", flag.ExitOnError)
	url := flags.String("url", "", "what to ask for, or to send to")
	size := flags.Int64("size", 1024, "bytes of a body")
	up := flags.Bool("up", false, "send bodies")
	requests := flags.Int64("requests", 100, "of all connections together")
	connections := flags.Int("connections", 1, "at once")
	flags.Parse(arguments)
	with := client(*connections)
	var group sync.WaitGroup
	var begun, errors atomic.Int64
	began := time.Now()
	for range *connections {
		group.Add(1)
		go func() {
			defer group.Done()
			for begun.Add(1) <= *requests {
				if !pass(with, *url, *size, *up) {
					errors.Add(1)
				}
			}
		}()
	}
	group.Wait()
	return map[string]float64{"errors": float64(errors.Load()), "seconds": time.Since(began).Seconds()}
}
