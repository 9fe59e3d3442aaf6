package history

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestPointsAreWhatWasCountedBetweenTwoTimes(t *testing.T) {
	var h Hour
	now := time.Unix(1_800_000_000, 0)
	if s := h.Series(nil); len(s.Tunnels) != 0 || s.Tunnels == nil {
		t.Errorf("before anything was noted: %+v", s)
	}
	a := Counts{Tunnels: 5, Opened: 105, Closed: map[string]uint64{"drain": 100}, Requests: 7, ToClient: Traffic{1000, 1 << 40}}
	h.Note(now, map[string]Counts{"a": a})
	a.Tunnels, a.Opened, a.Closed = 6, 108, map[string]uint64{"drain": 101, "close frame": 1}
	a.ToBackend, a.ToClient.Bytes = Traffic{3, 300}, 1<<40+1<<33
	now = now.Add(Step)
	h.Note(now, map[string]Counts{"a": a, "b": {Tunnels: 1, Opened: 1, Requests: 2}})
	now = now.Add(Step)
	h.Note(now, map[string]Counts{"a": a, "b": {Requests: 1}}) // counted anew: nothing goes below zero
	all, b := h.Series(nil), h.Series([]string{"b", "nobody"})
	for _, test := range []struct {
		what      string
		got, want []uint64
	}{
		{"tunnels", all.Tunnels, []uint64{7, 6}},
		{"opened", all.Opened, []uint64{4, 0}},
		{"closed", all.Closed, []uint64{2, 0}},
		{"requests", all.Requests, []uint64{2, 0}},
		{"messages in", all.MessagesIn, []uint64{3, 0}},
		{"bytes out", all.BytesOut, []uint64{1 << 33, 0}},
		{"tunnels of b", b.Tunnels, []uint64{1, 0}},
		{"bytes of b", b.BytesOut, []uint64{0, 0}},
	} {
		if !slices.Equal(test.got, test.want) {
			t.Errorf("%s: %v, want %v", test.what, test.got, test.want)
		}
	}
	if len(all.Reasons) != 2 || !slices.Contains(all.Reasons, Reason{"drain", 1}) || len(b.Reasons) != 0 || !all.Until.Equal(now) {
		t.Errorf("%+v", all)
	}
	if r := h.Recent(30)["b"]; r.Requests != 2.0/20 {
		t.Errorf("%+v", r)
	}
}

func TestAnHourIsKeptAndNoMore(t *testing.T) {
	var h Hour
	now := time.Unix(1_800_000_000, 0)
	for i := range 3 * Points {
		h.Note(now.Add(time.Duration(i)*Step), map[string]Counts{"a": {Tunnels: i, Opened: uint64(i)}})
	}
	s := h.Series(nil)
	if len(s.Tunnels) != Points || s.Tunnels[0] != 2*Points || s.Tunnels[Points-1] != 3*Points-1 || s.Opened[0] != 1 {
		t.Errorf("%d points, from %d to %d", len(s.Tunnels), s.Tunnels[0], s.Tunnels[len(s.Tunnels)-1])
	}
	for range Points {
		h.Note(now, nil)
	}
	if len(h.sites) != 0 || h.Series([]string{"a"}).Tunnels[0] != 0 {
		t.Errorf("a site that is gone for an hour is known: %v", h.sites)
	}
}

func TestManySitesAndReasonsAreBounded(t *testing.T) {
	var h Hour
	h.Note(time.Time{}, nil)
	counts := map[string]Counts{}
	for i := range 3 * maxSites {
		counts[fmt.Sprint(i)] = Counts{Opened: 1, Closed: map[string]uint64{fmt.Sprint("reason ", i): 1}}
	}
	h.Note(time.Time{}, counts)
	kept := 0
	for _, s := range h.sites {
		if s.points != nil {
			kept++
		}
	}
	s := h.Series(nil)
	if kept != maxSites || len(s.Reasons) != maxReasons || s.Reasons[0] != (Reason{otherReason, 3*maxSites - maxReasons + 1}) || s.Opened[0] != 3*maxSites {
		t.Errorf("%d sites are kept, with the reasons %v", kept, s.Reasons)
	}
}

// TestHourIsKept as JSON, whether it is full or not, and goes on.
func TestHourIsKept(t *testing.T) {
	for _, steps := range []int{0, 1, 7, Points, Points + 5, 3 * Points} {
		var h, next Hour
		now := time.Unix(1_800_000_000, 0)
		c := Counts{Closed: map[string]uint64{}}
		note := func(h *Hour, c Counts) {
			now = now.Add(Step)
			c.Closed = maps.Clone(c.Closed)
			h.Note(now, map[string]Counts{"a": c, "b": {Tunnels: 1}})
		}
		note(&h, c)
		for i := range steps {
			c.Tunnels, c.Requests, c.ToClient.Bytes = i, c.Requests+uint64(i), c.ToClient.Bytes+1<<40
			c.Closed[fmt.Sprint("reason ", i%20)]++
			note(&h, c)
		}
		text, err := json.Marshal(&h)
		if err == nil {
			err = json.Unmarshal(text, &next)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Tunnels = 0
		note(&next, Counts{Requests: 9, Closed: map[string]uint64{"reason 1": 1}}) // counted from zero
		c.Requests += 9
		c.Closed["reason 1"]++
		now = now.Add(-Step)
		note(&h, c)
		for _, sites := range [][]string{nil, {"a"}, {"b"}} {
			if got, want := next.Series(sites), h.Series(sites); !reflect.DeepEqual(got, want) {
				t.Errorf("%d steps, %v:\n%+v, want\n%+v", steps, sites, got, want)
			}
		}
	}
}

// FuzzKept finds hours that are read and can't be told.
func FuzzKept(f *testing.F) {
	f.Add([]byte(`{"until":"2026-11-20T09:30:11Z","reasons":["eof"],"sum":[[1,2,3,4,5,6,7,8,9,10]],"sites":{"a":[[1,2,3,4,5,6,7,8,9]]}}`))
	f.Add([]byte(`{"sum":[[]]}`))
	f.Add([]byte(`{"sites":{"a":[[1]]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Hour
		if h.UnmarshalJSON(b) != nil {
			return
		}
		h.Note(time.Unix(1_800_000_000, 0), map[string]Counts{"a": {Closed: map[string]uint64{"eof": 1}}})
		h.Series(nil)
		h.Recent(3)
		if _, err := h.MarshalJSON(); err != nil {
			t.Error(err)
		}
	})
}
