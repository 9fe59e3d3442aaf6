// Package static knows the files below a directory as HTTP sees them: which one a name means, its type, conditions and ranges, and how it is read without
// waiting for a disk on an event loop.
package static

import "strings"

// KeptBack reports a path that a static location serves only with `serve_sources: true`: one with a segment that begins with a dot, but for
// /.well-known/, which is meant to be seen (RFC 8615), or that is named like source, a dump, or what an editor leaves behind.
func KeptBack(name string) bool {
	for segment := range strings.SplitSeq(strings.ToLower(name), "/") {
		if isHidden(segment) || isSource(segment) {
			return true
		}
	}
	return false
}

// Hidden reports a path with a segment that begins with a dot, but for /.well-known/.
func Hidden(name string) bool {
	for segment := range strings.SplitSeq(name, "/") {
		if isHidden(segment) {
			return true
		}
	}
	return false
}

func isHidden(segment string) bool {
	return strings.HasPrefix(segment, ".") && segment != ".well-known"
}

// isSource judges a name in lower case by its last extension. A copy or an archive is what it was made of: dump.sql.gz, config.php.txt.
func isSource(name string) bool {
	if strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") {
		return true
	}
	for {
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 {
			return false
		}
		extension := name[dot+1:]
		name = name[:dot]
		switch extension {
		case "pht", "phtml", "phar", "inc", "asp", "aspx", "jsp", "cgi",
			"sql", "sqlite", "sqlite3", "env", "ini", "git", "svn",
			"bak", "backup", "old", "orig", "save", "rej", "swp", "swo", "swn":
			return true
		case "txt", "dist", "sample", "example", "tar", "gz", "tgz", "bz2", "xz", "zst", "zip", "7z", "rar":
			continue
		}
		if strings.HasPrefix(extension, "php") {
			return true
		}
		if strings.Trim(extension, "0123456789") != "" {
			return false
		}
	}
}
