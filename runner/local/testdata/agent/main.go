// Command agent stands in for the real one in tests of package local: it
// answers health requests and runs shell scripts, as the first process of a
// sandbox.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"
)

func main() {
	if len(os.Args) > 2 {
		if err := talk(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "probe" {
		probe()
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "inotify" {
		inotify()
		return
	}
	if len(os.Args) != 2 || os.Args[1] != "agent" {
		fmt.Fprintln(os.Stderr, "usage: agent agent")
		os.Exit(2)
	}
	if _, err := os.Stat("/etc/agent-dies"); err == nil {
		fmt.Fprintln(os.Stderr, "this image cannot work")
		os.Exit(1)
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "descriptor 3:", err)
		os.Exit(1)
	}
	http.HandleFunc("GET /v1/health", func(w http.ResponseWriter, r *http.Request) {})
	http.HandleFunc("POST /run", func(w http.ResponseWriter, r *http.Request) {
		script, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		cmd := exec.CommandContext(r.Context(), "/bin/sh", "-c", string(script))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err = cmd.Run()
		reply := struct {
			Output string
			Exit   int
			Error  string
		}{Output: out.String()}
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			reply.Exit = exit.ExitCode()
		} else if err != nil {
			reply.Error = err.Error()
		}
		json.NewEncoder(w).Encode(reply)
	})
	fmt.Fprintln(os.Stderr, http.Serve(l, nil))
}

// talk does what small programs of a shell do less reliably: get URL, serve
// ADDRESS, send ADDRESS SOURCE, hear ADDRESS FILE.
func talk(verb string, args []string) error {
	switch verb {
	case "get":
		client := http.Client{Timeout: 10 * time.Second}
		resp, err := client.Get(args[0])
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(os.Stdout, resp.Body)
		return err
	case "serve":
		return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			io.WriteString(w, "asked by "+host+"\n")
		}))
	case "hear": // prints when it is ready, and adds to the file what was said
		pc, err := net.ListenPacket("udp4", args[0])
		if err != nil {
			return err
		}
		f, err := os.OpenFile(args[1], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		fmt.Println("ready")
		for buf := make([]byte, 1000); ; {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return err
			}
			fmt.Fprintf(f, "%s as %s\n", buf[:n], from.(*net.UDPAddr).IP)
		}
	case "send":
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(args[1])}}
		conn, err := d.Dial("udp", args[0])
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte(os.Getenv("BERTH_SANDBOX")))
		return err
	case "flood": // each from another port
		for range 5000 {
			conn, err := net.DialTimeout(args[0], args[1], 50*time.Millisecond)
			if err != nil {
				continue
			}
			conn.Write([]byte("flood"))
			conn.Close()
		}
		return nil
	}
	return fmt.Errorf("what is %s?", verb)
}
