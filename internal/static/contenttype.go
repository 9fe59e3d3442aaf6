package static

import (
	"path"
	"strings"
)

// contentType returns the type of a file by its extension, as nginx's mime.types has it, with what has become common since; JavaScript is
// text/javascript (RFC 9239). It is application/octet-stream where nothing is known of the extension. The machine's own tables play no
// part, so that a file is the same everywhere.
func contentType(name string) string {
	extension := strings.ToLower(strings.TrimPrefix(path.Ext(name), "."))
	for _, known := range []func(string) string{textType, imageType, mediaType, documentType, programType} {
		if t := known(extension); t != "" {
			return t
		}
	}
	return unknownType
}

const unknownType = "application/octet-stream"

// textType knows text.
func textType(extension string) string {
	switch extension {
	case "html", "htm", "shtml":
		return "text/html"
	case "css":
		return "text/css"
	case "js", "mjs", "cjs":
		return "text/javascript"
	case "xml", "xsl", "xsd":
		return "text/xml"
	case "txt", "log":
		return "text/plain"
	case "md", "markdown":
		return "text/markdown"
	case "csv":
		return "text/csv"
	case "ics":
		return "text/calendar"
	case "vcf":
		return "text/vcard"
	case "vtt":
		return "text/vtt"
	case "mml":
		return "text/mathml"
	case "htc":
		return "text/x-component"
	case "jad":
		return "text/vnd.sun.j2me.app-descriptor"
	case "wml":
		return "text/vnd.wap.wml"
	}
	return ""
}

// imageType knows images and fonts.
func imageType(extension string) string {
	switch extension {
	case "png":
		return "image/png"
	case "jpeg", "jpg":
		return "image/jpeg"
	case "gif":
		return "image/gif"
	case "svg", "svgz":
		return "image/svg+xml"
	case "webp":
		return "image/webp"
	case "avif":
		return "image/avif"
	case "jxl":
		return "image/jxl"
	case "heic":
		return "image/heic"
	case "heif":
		return "image/heif"
	case "apng":
		return "image/apng"
	case "ico":
		return "image/x-icon"
	case "tif", "tiff":
		return "image/tiff"
	case "wbmp":
		return "image/vnd.wap.wbmp"
	case "jng":
		return "image/x-jng"
	case "bmp":
		return "image/x-ms-bmp"
	case "woff":
		return "font/woff"
	case "woff2":
		return "font/woff2"
	case "ttf":
		return "font/ttf"
	case "otf":
		return "font/otf"
	case "ttc":
		return "font/collection"
	case "eot":
		return "application/vnd.ms-fontobject"
	}
	return ""
}

// mediaType knows sound and moving pictures.
func mediaType(extension string) string {
	switch extension {
	case "mp3":
		return "audio/mpeg"
	case "ogg", "oga", "opus":
		return "audio/ogg"
	case "aac":
		return "audio/aac"
	case "flac":
		return "audio/flac"
	case "wav":
		return "audio/wav"
	case "weba":
		return "audio/webm"
	case "mid", "midi", "kar":
		return "audio/midi"
	case "m4a":
		return "audio/x-m4a"
	case "ra":
		return "audio/x-realaudio"
	case "mp4":
		return "video/mp4"
	case "webm":
		return "video/webm"
	case "ogv":
		return "video/ogg"
	case "mpeg", "mpg":
		return "video/mpeg"
	case "ts", "m2ts":
		return "video/mp2t"
	case "mov":
		return "video/quicktime"
	case "3gpp", "3gp":
		return "video/3gpp"
	case "mkv":
		return "video/x-matroska"
	case "flv":
		return "video/x-flv"
	case "m4v":
		return "video/x-m4v"
	case "mng":
		return "video/x-mng"
	case "asx", "asf":
		return "video/x-ms-asf"
	case "wmv":
		return "video/x-ms-wmv"
	case "avi":
		return "video/x-msvideo"
	case "m3u8":
		return "application/vnd.apple.mpegurl"
	case "mpd":
		return "application/dash+xml"
	}
	return ""
}

// documentType knows documents and data.
func documentType(extension string) string {
	switch extension {
	case "json", "map":
		return "application/json"
	case "jsonld":
		return "application/ld+json"
	case "geojson":
		return "application/geo+json"
	case "webmanifest":
		return "application/manifest+json"
	case "wasm":
		return "application/wasm"
	case "pdf":
		return "application/pdf"
	case "rtf":
		return "application/rtf"
	case "ps", "eps", "ai":
		return "application/postscript"
	case "epub":
		return "application/epub+zip"
	case "xhtml":
		return "application/xhtml+xml"
	case "atom":
		return "application/atom+xml"
	case "rss":
		return "application/rss+xml"
	case "xspf":
		return "application/xspf+xml"
	case "doc":
		return "application/msword"
	case "xls":
		return "application/vnd.ms-excel"
	case "ppt":
		return "application/vnd.ms-powerpoint"
	case "docx":
		return "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	case "xlsx":
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	case "pptx":
		return "application/vnd.openxmlformats-officedocument.presentationml.presentation"
	case "odt":
		return "application/vnd.oasis.opendocument.text"
	case "ods":
		return "application/vnd.oasis.opendocument.spreadsheet"
	case "odp":
		return "application/vnd.oasis.opendocument.presentation"
	case "odg":
		return "application/vnd.oasis.opendocument.graphics"
	case "kml":
		return "application/vnd.google-earth.kml+xml"
	case "kmz":
		return "application/vnd.google-earth.kmz"
	case "der", "pem", "crt":
		return "application/x-x509-ca-cert"
	case "glb":
		return "model/gltf-binary"
	case "gltf":
		return "model/gltf+json"
	}
	return ""
}

// programType knows archives and programs.
func programType(extension string) string {
	switch extension {
	case "zip":
		return "application/zip"
	case "gz", "tgz":
		return "application/gzip"
	case "tar":
		return "application/x-tar"
	case "bz2":
		return "application/x-bzip2"
	case "xz":
		return "application/x-xz"
	case "zst":
		return "application/zstd"
	case "7z":
		return "application/x-7z-compressed"
	case "rar":
		return "application/x-rar-compressed"
	case "jar", "war", "ear":
		return "application/java-archive"
	case "apk":
		return "application/vnd.android.package-archive"
	case "hqx":
		return "application/mac-binhex40"
	case "wmlc":
		return "application/vnd.wap.wmlc"
	case "cco":
		return "application/x-cocoa"
	case "jardiff":
		return "application/x-java-archive-diff"
	case "jnlp":
		return "application/x-java-jnlp-file"
	case "run":
		return "application/x-makeself"
	case "pl", "pm":
		return "application/x-perl"
	case "prc", "pdb":
		return "application/x-pilot"
	case "rpm":
		return "application/x-redhat-package-manager"
	case "sea":
		return "application/x-sea"
	case "swf":
		return "application/x-shockwave-flash"
	case "sit":
		return "application/x-stuffit"
	case "tcl", "tk":
		return "application/x-tcl"
	case "xpi":
		return "application/x-xpinstall"
	}
	return ""
}
