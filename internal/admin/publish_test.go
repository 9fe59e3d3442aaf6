package admin

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestItemsOfPushpinsClientsAreRead(t *testing.T) {
	for body, want := range map[string]published{
		`{"items":[{"channel":"x","formats":{"ws-message":{"content":"hi"}},"id":"1","prev-id":"0"}]}`:         {Message: Message{Data: []byte("hi")}},
		`{"items":[{"channel":"x","formats":{"ws-message":{"content":"hi","action":"send","type":"text"}}}]}`:  {Message: Message{Data: []byte("hi")}},
		`{"items":[{"channel":"x","formats":{"ws-message":{"content":"hi","type":"binary"}}}]}`:                {Message: Message{Data: []byte("hi"), Binary: true}},
		`{"items":[{"channel":"x","formats":{"ws-message":{"content-bin":"/w=="}}}]}`:                          {Message: Message{Data: []byte("\xff"), Binary: true}},
		`{"items":[{"channel":"x","formats":{"ws-message":{"content-bin":"aGk=","type":"text"}}}]}`:            {Message: Message{Data: []byte("hi")}},
		`{"items":[{"channel":"x","ws-message":{"content":"old","meta":{}}}]}`:                                 {Message: Message{Data: []byte("old")}},
		`{"items":[{"channel":"x","formats":{"ws-message":{"action":"close"}}}]}`:                              {close: true, code: 1000},
		`{"items":[{"channel":"x","formats":{"ws-message":{"action":"close","code":4001,"reason":"out"}}}]}`:   {close: true, code: 4001, reason: "out"},
		`{"items":[{"channel":"x","formats":{"ws-message":{"action":"hint"}}}]}`:                               {nobody: true},
		`{"items":[{"channel":"x","formats":{"ws-message":{"type":"ping"}}}]}`:                                 {nobody: true},
		`{"items":[{"channel":"x","formats":{"http-stream":{"content":"hi\n"},"http-response":{"body":""}}}]}`: {nobody: true},
		`{"items":[{"channel":"x","formats":{"unknown":{}},"meta":{"a":"b"},"size":3,"no-seq":true}]}`:         {nobody: true},
	} {
		items, err := parsePublish([]byte(body))
		if err != nil || len(items) != 1 {
			t.Errorf("%s: %v, %v", body, items, err)
			continue
		}
		got := items[0]
		if got.group != "x" || got.nobody != want.nobody || got.close != want.close || got.code != want.code || got.reason != want.reason ||
			string(got.Data) != string(want.Data) || got.Binary != want.Binary {
			t.Errorf("%s: %+v, want %+v", body, got, want)
		}
	}
	if items, err := parsePublish([]byte(`{"items":[]}`)); err != nil || len(items) != 0 {
		t.Errorf("no items: %v, %v", items, err)
	}
}

func TestWhatIsNoPublishingIsRefused(t *testing.T) {
	for body, status := range map[string]int{
		``: 400, `[]`: 400, `{}`: 400, `{"items":{}}`: 400, `{"items":[1]}`: 400, `{"items":[{}]}`: 400, `{"items":[{"channel":"x"}]}`: 400,
		`{"items":[{"channel":1,"formats":{}}]}`: 400, `{"items":[{"channel":"x","formats":[]}]}`: 400, `{"items":[{"channel":"x","id":7,"formats":{}}]}`: 400,
		`{"items":[{"formats":{"ws-message":{"content":"hi"}}}]}`:                                                             400,
		`{"items":[{"channel":"x","formats":{"ws-message":{}}}]}`:                                                             400,
		`{"items":[{"channel":"x","formats":{"ws-message":{"content":1}}}]}`:                                                  400,
		`{"items":[{"channel":"x","formats":{"ws-message":{"content":"x","type":"text2"}}}]}`:                                 400,
		`{"items":[{"channel":"x","formats":{"ws-message":{"content":"x","action":"wave"}}}]}`:                                400,
		`{"items":[{"channel":"x","formats":{"ws-message":{"content-bin":"?"}}}]}`:                                            400,
		`{"items":[{"channel":"x","formats":{"ws-message":{"action":"close","code":70000}}}]}`:                                400,
		`{"items":[{"channel":"x","formats":{"ws-message":{"action":"close","reason":"` + strings.Repeat("x", 124) + `"}}}]}`: 422,
		`{"items":[{"channel":"x","formats":{"ws-message":{"content-bin":"/w==","type":"text"}}}]}`:                           422,
		`{"items":[{"channel":"x","formats":{"ws-message":{"content":"` + strings.Repeat("x", MaxMessage+1) + `"}}}]}`:        413,
		`{"items":[{"channel":"x","formats":{"ws-message":{"content":"good"}}},{"channel":"x","formats":{"ws-message":{}}}]}`: 400,
		"{\"items\":[{\"channel\":\"x\",\"formats\":{\"ws-message\":{\"content\":\"\xff\"}}}]}":                               400,
		`{"items":[]} more`: 400,
	} {
		items, err := parsePublish([]byte(body))
		if e, ok := errors.AsType[*StatusError](err); !ok || e.Status != status || items != nil {
			t.Errorf("%.80s: %v, want %d", body, err, status)
		}
	}
}

// FuzzPublish finds items that could not be pushed.
func FuzzPublish(f *testing.F) {
	f.Add([]byte(`{"items":[{"channel":"x","formats":{"ws-message":{"content":"hi","type":"text"}},"id":"1"}]}`))
	f.Add([]byte(`{"items":[{"channel":"x","ws-message":{"action":"close","code":4001,"reason":"out"}},{"channel":"","formats":{}}]}`))
	f.Add([]byte(`{"items":[{"channel":"x","formats":{"ws-message":{"content-bin":"/w=="}}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		items, err := parsePublish(body)
		if err != nil {
			if e, ok := errors.AsType[*StatusError](err); !ok || e.Status < 400 || e.Status > 422 || items != nil {
				t.Fatalf("%q is refused with %v", body, err)
			}
			return
		}
		for _, p := range items {
			if len(p.Data) > MaxMessage || !p.Binary && !utf8.Valid(p.Data) || len(p.reason) > maxReason || p.close && p.Data != nil {
				t.Fatalf("%q is %+v", body, p)
			}
		}
	})
}
