package proxy

import (
	"maps"
	"net/http"
	"slices"

	"wstunnel/internal/head"
	"wstunnel/internal/ws"
)

// headOf returns the head of a request that net/http has parsed.
func headOf(r *http.Request) *head.Request {
	h := &head.Request{
		Method: r.Method, Target: r.RequestURI, Host: r.Host, Major: r.ProtoMajor, Minor: r.ProtoMinor,
		Fields: fieldsOf(r.Header), Length: r.ContentLength,
	}
	if ws.WantsUpgrade(r) {
		h.Protocol = "websocket"
	}
	return h
}

// fieldsOf returns the fields of a header, by name; those of WebSocket are spelt as in RFC 6455.
func fieldsOf(h http.Header) head.Fields {
	fields := make(head.Fields, 0, len(h)+8)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		spelt := ws.HeaderName(name)
		id := head.IDOf(name)
		for _, value := range h[name] {
			fields = append(fields, head.Field{Name: spelt, Value: value, ID: id})
		}
	}
	return fields
}

// headerOf returns fields as net/http keeps them.
func headerOf(fields head.Fields) http.Header {
	h := make(http.Header, len(fields))
	for _, f := range fields {
		h.Add(f.Name, f.Value)
	}
	return h
}

// namesOf returns the names of a header as fields without values.
func namesOf(h http.Header) head.Fields {
	fields := make(head.Fields, 0, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		fields = append(fields, head.Field{Name: name, ID: head.IDOf(name)})
	}
	return fields
}
