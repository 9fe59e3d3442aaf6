//go:build !linux || portable

package proxy

import (
	"maps"
	"net/http"
	"slices"

	"wstunnel/internal/head"
	"wstunnel/internal/ws"
)

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
