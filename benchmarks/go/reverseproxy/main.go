// Go's httputil.ReverseProxy as one would use it before an LLM API: every piece passed on at once,
// enough idle connections for the load, bodies left as they are.
package main

import (
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9201", "address")
	destination := flag.String("destination", "http://127.0.0.1:9101", "where requests go")
	prefix := flag.String("prefix", "/bench", "what is cut off from paths")
	flag.Parse()
	target, err := url.Parse(*destination)
	if err != nil {
		log.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns = 0
	transport.MaxIdleConnsPerHost = 1000
	transport.DisableCompression = true
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		FlushInterval: -1,
		Transport:     transport,
	}
	log.Fatal(http.ListenAndServe(*listen, http.StripPrefix(*prefix, proxy)))
}
