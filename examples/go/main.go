// The sample service in Go, built static and stripped (CGO_ENABLED=0 go build -ldflags "-s -w"): no libc,
// so nothing in it can be preloaded. What it answers is described in ../python/app.py.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func variable(name, otherwise string) string {
	if value, set := os.LookupEnv(name); set {
		return value
	}
	return otherwise
}

func readFile(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return "error: " + err.Error()
	}
	return strings.TrimSpace(string(content))
}

func resolve(name string) string {
	addresses, err := net.LookupIP(name)
	if err != nil {
		return "error: " + err.Error()
	}
	for _, address := range addresses {
		if v4 := address.To4(); v4 != nil {
			return v4.String()
		}
	}
	return "error: no IPv4 address"
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		fmt.Fprintln(os.Stderr, "cannot answer:", err)
	}
}

func say(w http.ResponseWriter, r *http.Request) {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "error: " + err.Error()
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	answer(w, map[string]any{
		"text":     r.URL.Query().Get("text"),
		"greeting": os.Getenv("SAMPLE_GREETING"),
		"file":     readFile(variable("SAMPLE_FILE", "/etc/sample/banner.txt")),
		"address":  resolve(variable("SAMPLE_NAME", "localhost")),
		"hostname": hostname,
		"client":   client,
		"pid":      os.Getpid(),
		"program":  "go",
	})
}

func call(w http.ResponseWriter, r *http.Request) {
	client := http.Client{Timeout: 10 * time.Second}
	got, err := client.Get(r.URL.Query().Get("url"))
	if err != nil {
		answer(w, map[string]any{"error": err.Error()})
		return
	}
	defer got.Body.Close()
	body, err := io.ReadAll(io.LimitReader(got.Body, 65536))
	if err != nil {
		answer(w, map[string]any{"error": err.Error()})
		return
	}
	answer(w, map[string]any{"status": got.StatusCode, "body": string(body)})
}

func main() {
	http.HandleFunc("/say", say)
	http.HandleFunc("/call", call)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{"ok": true}) })
	listener, err := net.Listen("tcp4", "0.0.0.0:"+variable("PORT", "80"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("sample service on", listener.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(listener, nil))
	os.Exit(1)
}
