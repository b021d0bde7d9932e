package main

import (
	"bufio"
	"bytes"
	"flag"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

var sent = []byte(`"t":`)

// Delays of a stream's events in µs, from the upstream's hand to ours, and whether it came to its end.
func readStream(from *http.Client, url string) (delays []float64, whole bool) {
	response, err := from.Post(url, "application/json", strings.NewReader(`{"stream":true}`))
	if err != nil {
		return nil, false
	}
	defer response.Body.Close()
	lines := bufio.NewReaderSize(response.Body, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return delays, whole
		}
		if _, after, found := bytes.Cut(line, sent); found {
			digits, _, _ := bytes.Cut(after, []byte(","))
			at, _ := strconv.ParseInt(string(digits), 10, 64)
			delays = append(delays, float64(time.Now().UnixNano()-at)/1e3)
		} else if bytes.HasPrefix(line, []byte("data: [DONE]")) {
			whole = true
		}
	}
}

func quantile(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(share*float64(len(sorted)-1))]
}

// Streams begin one after another, 1 ms apart: it is their running that is measured.
func sse(arguments []string) any {
	flags := flag.NewFlagSet("sse", flag.ExitOnError)
	url := flags.String("url", "", "of a stream")
	streams := flags.Int("streams", 100, "how many at once")
	flags.Parse(arguments)
	from := client(*streams)
	var mutex sync.Mutex
	var group sync.WaitGroup
	var all []float64
	errors := 0
	began := time.Now()
	for i := range *streams {
		group.Add(1)
		go func() {
			defer group.Done()
			time.Sleep(time.Duration(i) * time.Millisecond)
			delays, whole := readStream(from, *url)
			mutex.Lock()
			defer mutex.Unlock()
			all = append(all, delays...)
			if !whole {
				errors++
			}
		}()
	}
	group.Wait()
	seconds := time.Since(began).Seconds()
	slices.Sort(all)
	return map[string]float64{
		"events": float64(len(all)), "errors": float64(errors), "seconds": seconds,
		"p50_us": quantile(all, .5), "p99_us": quantile(all, .99),
	}
}
