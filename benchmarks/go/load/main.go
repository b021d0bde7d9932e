// Load that wrk and curl cannot make.  What was measured is printed as one JSON object.
//
//	load sse    -url URL -streams 100
//	load bodies -url URL -size 1048576 -requests 64 -connections 4 [-up]
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

func client(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}}
}

func main() {
	commands := map[string]func([]string) any{"sse": sse, "bodies": bodies}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: load sse|bodies -url URL ...")
		os.Exit(2)
	}
	json.NewEncoder(os.Stdout).Encode(commands[os.Args[1]](os.Args[2:]))
}
