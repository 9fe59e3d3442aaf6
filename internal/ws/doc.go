// Package ws knows the bytes of RFC 6455: what makes an upgrade request and its answer valid,
// where frames begin and end in a stream, and how a frame is built. It does no I/O and keeps
// no payload.
package ws
