// The sandbox container of every pod: it sleeps, and as process 1 of a shared namespace it reaps orphans.
//
//	pause                      sleep until told to end
//	pause dial HOST:PORT ...   connect to each address once (trying for 20 seconds): the cluster's own check
//	                           that names resolve and Services route from inside a pod
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "dial" {
		os.Exit(dial(os.Args[2:], time.Now().Add(20*time.Second)))
	}
	sleep()
}

func sleep() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for pid := 1; pid > 0; {
			pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}

func dial(addresses []string, deadline time.Time) int {
	for _, address := range addresses {
		for {
			connection, err := net.DialTimeout("tcp", address, 2*time.Second)
			if err == nil {
				connection.Close()
				fmt.Println(address, "answers")
				break
			}
			if time.Now().After(deadline) {
				fmt.Println(err)
				return 1
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return 0
}
