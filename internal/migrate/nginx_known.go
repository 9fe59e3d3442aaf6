package migrate

import "strings"

// missing is what a directive does that has no counterpart, and what to do about that.
type missing struct{ does, do string }

// nginxMissing are nginx's directives without a counterpart.
var nginxMissing = map[string]missing{
	"limit_req":                  {"bounds the requests of a client in a time", "leave it to the program, or to a firewall"},
	"limit_conn":                 {"bounds the connections of a client", "limits.max_connections_per_client bounds those of each client for all sites"},
	"limit_rate":                 {"slows answers down", "leave it to the program"},
	"limit_rate_after":           {"slows answers down", "leave it to the program"},
	"proxy_cache":                {"keeps answers for others", "put a cache such as Varnish before the program where it needs one"},
	"proxy_store":                {"keeps answers as files", "leave it to the program"},
	"fastcgi_cache":              {"keeps answers for others", "use a cache of the program's own"},
	"sub_filter":                 {"changes texts in bodies", "have the program write the right ones"},
	"addition_types":             {"adds to bodies", "leave it to the program"},
	"add_before_body":            {"adds to bodies", "leave it to the program"},
	"add_after_body":             {"adds to bodies", "leave it to the program"},
	"ssi":                        {"includes files into pages as they are sent", "let the program, or a build of the pages, do that"},
	"xslt_stylesheet":            {"turns XML into pages", "leave it to the program"},
	"image_filter":               {"changes images", "leave it to the program"},
	"dav_methods":                {"changes files on behalf of clients", "leave WebDAV to a program of its own"},
	"dav_ext_methods":            {"changes files on behalf of clients", "leave WebDAV to a program of its own"},
	"mirror":                     {"sends requests to a second backend", "leave it to the program"},
	"secure_link":                {"checks signed links", "leave it to the program"},
	"valid_referers":             {"finds out where a client comes from", "allowed_origins refuses WebSockets of other sites; for pages leave it to the program"},
	"referer_hash_bucket_size":   {"finds out where a client comes from", "leave it to the program"},
	"perl":                       {"runs Perl", "leave it to the program"},
	"js_import":                  {"runs JavaScript", "leave it to the program"},
	"js_content":                 {"runs JavaScript", "leave it to the program"},
	"js_set":                     {"runs JavaScript", "leave it to the program"},
	"proxy_bind":                 {"connects to the backend from an address", "let routes choose the address"},
	"proxy_method":               {"changes the method", "leave it to the program"},
	"proxy_set_body":             {"changes bodies of requests", "leave it to the program"},
	"proxy_pass_request_body":    {"keeps bodies from the backend", "leave it to the program"},
	"proxy_pass_request_headers": {"keeps headers from the backend", "headers.request.remove takes away those that are named"},
	"proxy_limit_rate":           {"slows the backend's answers down", "leave it to the program"},
	"proxy_ssl_certificate":      {"shows the backend a certificate", "let the backend ask for something else; there is no client certificate for backends"},
	"proxy_ssl_crl":              {"refuses certificates of the backend", "tls_ca names the roots to check it with"},
	"proxy_cookie_flags":         {"changes flags of cookies", "have the program set them"},
	"userid":                     {"gives clients a cookie", "leave it to the program"},
	"auth_jwt":                   {"checks tokens", "use auth_request with a program that checks them"},
	"auth_delay":                 {"slows refusals down", "attempts are bounded for each client anyway"},
	"ssl_crl":                    {"refuses certificates of clients", "give client_ca a CA of which none was taken back"},
	"ssl_ocsp":                   {"asks whether certificates of clients were taken back", "give client_ca a CA of its own"},
	"quic_retry":                 {"is about HTTP/3", "HTTP/2 is spoken; HTTP/3 is not"},
	"http3":                      {"is about HTTP/3", "HTTP/2 is spoken; HTTP/3 is not"},
	"load_module":                {"loads a module", "the notes about its directives say what is missing"},
	"modsecurity":                {"is a firewall for requests", "leave it to a program of its own behind or before this one"},
	"modsecurity_rules_file":     {"is a firewall for requests", "leave it to a program of its own behind or before this one"},
	"rewrite_by_lua_block":       {"runs Lua", "leave it to the program"},
	"access_by_lua_block":        {"runs Lua that may refuse clients", "use auth_request with a program that says who may come in"},
	"content_by_lua_block":       {"runs Lua", "leave it to the program"},
	"header_filter_by_lua_block": {"runs Lua", "headers.response sets headers"},
	"body_filter_by_lua_block":   {"runs Lua", "leave it to the program"},
	"slice":                      {"asks for parts of files", "leave it out"},
	"mp4":                        {"cuts videos", "leave it to a program"},
	"flv":                        {"cuts videos", "leave it to a program"},
	"hls":                        {"cuts videos", "leave it to a program"},
	"uwsgi_cache":                {"keeps answers for others", "use a cache of the program's own"},
	"disable_symlinks":           {"refuses links in the file system", "links that lead out of the directory are followed here: mind who may make some"},
	"charset":                    {"adds a charset to types", "text is sent as UTF-8; headers.response can set Content-Type"},
	"override_charset":           {"changes charsets", "leave it to the program"},
	"source_charset":             {"changes charsets", "leave it to the program"},
	"msie_padding":               {"is for browsers of long ago", ""},
	"random_index":               {"chooses a file by chance", "leave it to the program"},
	"status":                     {"shows numbers of nginx", "leave it out"},
	"gunzip":                     {"inflates answers for clients that cannot", "all clients of today can"},
	"split_clients":              {"shares clients out by chance", "an upstream shares them out in turn"},
}

// nginxNeedless begin the names of directives that are not needed here: about nginx's own processes and buffers, or what is done anyway.
var nginxNeedless = []string{
	"worker_", "events", "user", "pid", "daemon", "master_process", "error_log", "sendfile", "tcp_nopush", "tcp_nodelay", "types", "default_type",
	"keepalive_", "reset_timedout", "send_timeout", "client_body_", "client_header_", "large_client_header_buffers", "server_tokens",
	"server_names_hash", "types_hash", "variables_hash", "map_hash", "proxy_headers_hash", "resolver", "aio", "directio", "output_buffers", "read_ahead",
	"open_file_cache", "log_not_found", "log_subrequest", "log_format", "open_log_file", "ssl_session", "ssl_ciphers", "ssl_prefer", "ssl_dhparam",
	"ssl_ecdh", "ssl_stapling", "ssl_buffer", "ssl_early_data", "ssl_conf_command", "ssl_trusted_certificate", "ssl_password_file", "ssl_verify_depth",
	"http2", "http2_", "gzip_", "gunzip_", "brotli_", "proxy_buffer", "proxy_busy", "proxy_temp", "proxy_max_temp", "proxy_request_buffering",
	"proxy_http_version", "proxy_next_upstream", "proxy_ignore_client_abort", "proxy_socket_keepalive", "proxy_send_", "proxy_ignore_headers",
	"proxy_pass_header", "proxy_headers_hash", "proxy_ssl_session", "proxy_ssl_protocols", "proxy_ssl_ciphers", "proxy_ssl_server_name",
	"proxy_ssl_verify_depth", "proxy_force_ranges", "proxy_cache_", "proxy_no_cache", "proxy_store_", "fastcgi_buffer", "fastcgi_busy", "fastcgi_temp",
	"fastcgi_max_temp", "fastcgi_request_buffering", "fastcgi_send_", "fastcgi_index", "fastcgi_keep_conn", "fastcgi_next_upstream",
	"fastcgi_ignore_client_abort", "fastcgi_ignore_headers", "fastcgi_pass_header", "fastcgi_cache_", "fastcgi_no_cache", "fastcgi_socket_keepalive",
	"fastcgi_catch_stderr", "fastcgi_pass_request", "limit_req_", "limit_conn_", "merge_slashes", "absolute_redirect", "port_in_redirect",
	"server_name_in_redirect", "underscores_in_headers", "ignore_invalid_headers", "lingering_", "postpone_output", "request_pool", "connection_pool",
	"recursive_error_pages", "msie_", "etag", "if_modified_since", "max_ranges", "chunked_transfer", "real_ip_", "autoindex_", "break", "internal", "pcre_jit",
	"thread_pool", "timer_resolution", "env", "debug_", "lock_file", "accept_mutex", "multi_accept", "use", "zone", "state", "rewrite_log", "uninitialized_",
	"sub_filter_", "ssi_", "perl_", "js_", "charset_", "geoip_", "subrequest_", "sendfile_max", "auth_http", "ssl_reject", "add_trailer", "etag", "working_",
	"ssl_engine", "ssl_object", "uwsgi_param", "uwsgi_read", "uwsgi_send", "scgi_param", "grpc_set_header", "grpc_read", "grpc_send", "quic_", "dav_access",
	"create_full_put_path", "min_delete_depth", "modsecurity_", "lua_", "more_set_input", "image_filter_", "secure_link_",
}

// isNginxNeedless reports a directive that is not needed here.
func isNginxNeedless(name string) bool {
	for _, n := range nginxNeedless {
		if name == n || strings.HasSuffix(n, "_") && strings.HasPrefix(name, n) {
			return true
		}
	}
	for _, n := range nginxPrefixes {
		if strings.HasPrefix(name, n) {
			return true
		}
	}
	return false
}

// nginxPrefixes begin names of families of which no member is needed.
var nginxPrefixes = []string{
	"worker_", "types_hash", "server_names_hash", "variables_hash", "map_hash", "ssl_session", "ssl_prefer", "ssl_ecdh", "ssl_stapling", "proxy_buffer",
	"proxy_busy", "proxy_temp", "proxy_max_temp", "proxy_next_upstream", "proxy_ssl_session", "fastcgi_buffer", "fastcgi_busy", "fastcgi_temp",
	"fastcgi_max_temp", "fastcgi_next_upstream", "open_file_cache", "resolver", "keepalive_", "ssl_buffer", "http2_", "reset_timedout", "aio", "proxy_headers_hash",
}

// nginxKnown are directives that are translated where something depends on them; where nothing does they are not needed.
var nginxKnown = []string{
	"server", "listen", "server_name", "location", "upstream", "map", "geo", "log_format", "set", "if", "rewrite", "return", "try_files", "root", "alias", "index",
	"autoindex", "expires", "error_page", "access_log", "add_header", "gzip", "gzip_types", "brotli", "auth_basic", "auth_basic_user_file", "allow",
	"deny", "satisfy", "auth_request", "auth_request_set", "client_max_body_size", "proxy_pass", "proxy_set_header", "proxy_hide_header",
	"proxy_redirect", "proxy_cookie_path", "proxy_cookie_domain", "proxy_connect_timeout", "proxy_read_timeout", "proxy_intercept_errors",
	"proxy_ssl_verify", "proxy_ssl_trusted_certificate", "proxy_ssl_name", "fastcgi_pass", "fastcgi_param", "fastcgi_split_path_info",
	"fastcgi_read_timeout", "fastcgi_connect_timeout", "fastcgi_intercept_errors", "fastcgi_hide_header", "ssl", "ssl_certificate", "ssl_certificate_key",
	"ssl_protocols", "ssl_client_certificate", "ssl_verify_client", "set_real_ip_from", "more_set_headers", "more_clear_headers", "gzip_static",
	"brotli_static", "limit_except", "include", "http", "volatile", "default", "hostnames",
}
