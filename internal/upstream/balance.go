package upstream

import (
	"math/rand/v2"
	"slices"

	"wstunnel/internal/config"
	"wstunnel/internal/health"
)

// rank is how gladly a server is used. Lower ones go first.
type rank int

const (
	preferred rank = iota
	spare          // a backup
	doubtful       // it did not answer lately
	ejected        // too many requests to it failed: the last resort
	unusable
)

// rank returns that of a server for this attempt. It takes no lock for those that are up.
func (a *attempt) rank(e *endpoint) rank {
	switch {
	case e.down || slices.Contains(a.tried, e) || e.pool.among.isAside(a.upstream.Target.Upstream, e.address):
		return unusable
	case !e.health.Up():
		if e.health.Status().State != health.Ejected { // its checks fail
			return unusable
		}
		return ejected
	case e.pool.putOff() > 0:
		return doubtful
	case e.backup:
		return spare
	}
	return preferred
}

// fit is what a server has to be to be chosen.
type fit struct {
	*attempt
	rank rank
	room func(*endpoint) bool // nil: there is always room
}

func (f *fit) has(e *endpoint) bool {
	return f.attempt.rank(e) == f.rank && (f.room == nil || f.room(e))
}

// choose returns the server that is to be tried next. It returns none where all those that should be have no room, so that one of them has to be waited for, or,
// with none set, where no server is left.
func (a *attempt) choose(room func(*endpoint) bool) (e *endpoint, none bool) {
	u := a.upstream
	if len(u.endpoints) == 1 {
		switch e := u.endpoints[0]; {
		case a.rank(e) == unusable:
			return nil, true
		case room != nil && !room(e):
			return nil, false
		default:
			return e, false
		}
	}
	if e := u.stuck(a.choice.Sticky); e != nil && a.rank(e) < doubtful {
		if room != nil && !room(e) {
			return nil, false
		}
		return e, false
	}
	for r := preferred; r < unusable; r++ {
		f := fit{a, r, room}
		if e := f.pick(); e != nil {
			return e, false
		}
		if room != nil && slices.ContainsFunc(u.endpoints, func(e *endpoint) bool { return a.rank(e) == r }) {
			return nil, false
		}
	}
	return nil, true
}

// pick picks one of those that fit, as the upstream balances.
func (f *fit) pick() *endpoint {
	switch f.upstream.Target.Balance {
	case config.BalanceLeastConn:
		return f.leastBusy()
	case config.BalanceRandomTwo:
		return f.randomTwo()
	case config.BalanceHash, config.BalanceIPHash:
		if f.choice.Hashed {
			return f.onRing()
		}
	}
	return f.inTurn()
}

// inTurn picks the next one, each as often as its weight says.
func (f *fit) inTurn() *endpoint {
	u := f.upstream
	if f.rank == preferred {
		for range 2 * len(u.turns) {
			e := u.endpoints[u.turns[u.balancer.nextTurn(len(u.turns))]]
			if f.has(e) && isIn(e) {
				return e
			}
		}
	}
	first := u.balancer.nextTurn(len(u.endpoints))
	for i := range u.endpoints {
		if e := u.endpoints[(first+i)%len(u.endpoints)]; f.has(e) {
			return e
		}
	}
	return nil
}

// isIn draws whether a server that comes back has its turn.
func isIn(e *endpoint) bool {
	share := e.health.Share()
	return share >= 1 || rand.Float64() < share
}

// leastBusy picks the one with the least to do for its share; of equals the next in turn.
func (f *fit) leastBusy() (best *endpoint) {
	u := f.upstream
	first, least := u.balancer.nextTurn(len(u.endpoints)), 0.0
	for i := range u.endpoints {
		e := u.endpoints[(first+i)%len(u.endpoints)]
		if !f.has(e) {
			continue
		}
		if busy := float64(e.load()+1) / e.share(); best == nil || busy < least {
			best, least = e, busy
		}
	}
	return best
}

// randomTwo draws two, and picks the one with less to do for its share.
func (f *fit) randomTwo() *endpoint {
	all := f.upstream.endpoints
	var first *endpoint
	for range 4 * len(all) {
		e := all[rand.IntN(len(all))]
		switch {
		case e == first || !f.has(e):
		case first == nil:
			first = e
		case float64(e.load()+1)/e.share() < float64(first.load()+1)/first.share():
			return e
		default:
			return first
		}
	}
	if first != nil {
		return first
	}
	return f.leastBusy()
}

// onRing picks the one that the hash leads to, or the next on the ring that has no more than 1.25 times its share to do.
func (f *fit) onRing() *endpoint {
	u := f.upstream
	load, shares := 1.0, 0.0
	for _, e := range u.endpoints {
		if f.has(e) {
			load += float64(e.load())
			shares += e.share()
		}
	}
	switch { // without a walk round the whole ring
	case shares == 0:
		return nil
	case f.rank == spare: // which have no points
		return f.leastBusy()
	}
	found := u.ring.find(f.choice.Hash, func(i int) bool {
		e := u.endpoints[i]
		return f.has(e) && float64(e.load()) < boundedLoad*load*e.share()/shares
	})
	if found < 0 {
		return f.leastBusy()
	}
	return u.endpoints[found]
}

// mostTurns bounds the length of a round: where weights need a longer one, they are rounded.
const mostTurns = 4096

// turnsOf returns the order of a round among servers with weights, as indices: those of one server are spread out evenly over it.
func turnsOf(weights []int) []uint16 {
	sum, divisor := 0, 0
	for _, w := range weights {
		sum, divisor = sum+w, gcd(divisor, w)
	}
	if sum == 0 {
		return nil
	}
	shares := make([]int, len(weights))
	round := 0
	for i, w := range weights {
		if shares[i] = w / divisor; sum/divisor > mostTurns && w > 0 {
			shares[i] = max(1, w*mostTurns/sum)
		}
		round += shares[i]
	}
	turns, credit := make([]uint16, 0, round), make([]int, len(weights))
	for range round {
		best := -1
		for i, share := range shares {
			credit[i] += share
			if share > 0 && (best < 0 || credit[i] > credit[best]) {
				best = i
			}
		}
		credit[best] -= round
		turns = append(turns, uint16(best))
	}
	return turns
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
