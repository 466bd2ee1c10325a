package main

import (
	"fmt"
	"sync"
	"time"
)

var processCases = map[int]func(Seen){
	72: func(s Seen) {
		// Garbage enough that goroutines are preempted by signals all the time.
		over := make(chan struct{})
		for range 4 {
			go func() {
				kept := map[int][]byte{}
				for number := 0; ; number++ {
					select {
					case <-over:
						return
					default:
						kept[number%50] = make([]byte, 1<<16)
					}
				}
			}()
		}
		var group sync.WaitGroup
		var lock sync.Mutex
		all := map[string]int{}
		for range 4 {
			group.Add(1)
			go func() {
				defer group.Done()
				for range 100 {
					said := content(dir("file"))
					lock.Lock()
					all[said]++
					lock.Unlock()
				}
			}()
		}
		began := time.Now()
		group.Wait()
		close(over)
		s.saw("read", fmt.Sprint(all, time.Since(began) < 15*time.Second))
	},
}
