package learner

import (
	"context"
	"net"
	"sync"
	"time"
)

// SlowLine gives a dialer whose connections carry so many bytes a second
// towards us and take so long each way.
func SlowLine(rate float64, oneWay time.Duration) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		far, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		// What the line holds is bounded by what fits on it, as a real one is.
		if c, ok := far.(*net.TCPConn); ok {
			if err := c.SetReadBuffer(64 << 10); err != nil {
				return nil, err
			}
		}
		near, ours := net.Pipe()
		var both sync.WaitGroup
		both.Go(func() { carry(ours, far, rate, oneWay); ours.Close(); far.Close() })
		both.Go(func() { carry(far, ours, 0, oneWay); ours.Close(); far.Close() })
		return near, nil
	}
}

// carry copies from src to dst with a delay and at most rate bytes a second.
func carry(dst net.Conn, src net.Conn, rate float64, delay time.Duration) {
	type parcel struct {
		b   []byte
		due time.Time
	}
	line := make(chan parcel, max(4, int(rate*delay.Seconds()/4096)))
	var sending sync.WaitGroup
	sending.Go(func() {
		for p := range line {
			time.Sleep(time.Until(p.due))
			if _, err := dst.Write(p.b); err != nil {
				src.Close()
				for range line {
				}
				return
			}
		}
	})
	free := time.Now()
	for {
		b := make([]byte, 4096)
		n, err := src.Read(b)
		if n > 0 {
			now := time.Now()
			if free.Before(now) {
				free = now
			}
			if rate > 0 {
				free = free.Add(time.Duration(float64(n) / rate * 1e9))
				time.Sleep(time.Until(free))
			}
			line <- parcel{b[:n], free.Add(delay)}
		}
		if err != nil {
			close(line)
			sending.Wait()
			return
		}
	}
}
