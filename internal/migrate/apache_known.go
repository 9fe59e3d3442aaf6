package migrate

import (
	"slices"
	"strings"
)

// apacheMissing are Apache's directives without a counterpart.
var apacheMissing = map[string]missing{
	"proxyrequests": {"makes Apache a proxy to all of the web", "leave that to another program"},
	"scriptalias":   {"runs CGI programs", "leave them to a server of their own behind this one"}, "scriptaliasmatch": {"runs CGI programs", "leave them to a server of their own behind this one"},
	"substitute": {"changes texts in bodies", "have the program write the right ones"}, "setoutputfilter": {"changes bodies", "leave it to the program"},
	"proxyhtmlenable": {"changes links in pages", "have the program write the right ones"}, "proxyhtmlurlmap": {"changes links in pages", "have the program write the right ones"},
	"extfilterdefine": {"runs bodies through a program", "leave it to the program"}, "dav": {"changes files on behalf of clients (WebDAV)", "leave it to a program of its own"},
	"cacheenable": {"keeps answers for others", "put a cache before the program where it needs one"}, "secruleengine": {"is a firewall for requests", "leave it to a program of its own"},
	"secrule": {"is a firewall for requests", "leave it to a program of its own"}, "wsgiscriptalias": {"runs Python in Apache", "have a server such as gunicorn listen, and name it with proxy"},
	"wsgidaemonprocess": {"runs Python in Apache", "have a server such as gunicorn listen, and name it with proxy"}, "passengerroot": {"runs programs in Apache", "have the program listen, and name it with proxy"},
	"passengerenabled": {"runs programs in Apache", "have the program listen, and name it with proxy"}, "userdir": {"serves directories of users", "write a location with root for each"},
	"virtualdocumentroot": {"finds directories by the host", "write a site for each"}, "luahookaccesschecker": {"runs Lua", "leave it to the program"},
	"luamaphandler": {"runs Lua", "leave it to the program"}, "rewritemap": {"looks up targets of rewrites", "write a redirect or a location for each"},
	"sslopenssl": {"is about OpenSSL", ""}, "ssluserename": {"tells scripts who the client's certificate names", "backends get X-Client-Subject"},
	"ratelimit": {"slows answers down", "leave it to the program"}, "evasive": {"bounds requests", "limits.max_connections_per_client bounds connections"},
	"doshashtablesize": {"bounds requests", "limits.max_connections_per_client bounds connections"}, "oidcproviderurl": {"logs clients in", "use auth_request with a program that does"},
	"oidcprovidermetadataurl": {"logs clients in", "use auth_request with a program that does"}, "authldapurl": {"asks LDAP for users", "use auth_request with a program that does"},
	"jkmount": {"speaks AJP to Tomcat", "have Tomcat listen for HTTP, and name it with proxy"}, "header": {"changes headers in a place that has no location here", "write headers on the site or a location"},
	"requestheader": {"changes headers in a place that has no location here", "write headers on the site or a location"},
}

// apacheNeedless are directives that are not needed here, and the beginnings (with a * behind them) of names of such.
var apacheNeedless = []string{
	"serveradmin", "serversignature", "servertokens", "errorlog", "errorlogformat", "loglevel", "logformat", "loadmodule", "listen", "user", "group", "pidfile",
	"mutex", "defaultruntimedir", "keepalive*", "maxkeepaliverequests", "hostnamelookups", "usecanonical*", "accessfilename", "typesconfig", "mimemagicfile",
	"addtype", "addencoding", "addlanguage", "addcharset", "adddefaultcharset", "languagepriority", "forcelanguagepriority", "defaultlanguage", "addicon*",
	"defaulticon", "indexoptions", "indexignore*", "indexstylesheet", "headername", "readmename", "adddescription", "indexorderdefault", "setenvif*", "setenv",
	"unsetenv", "passenv", "browsermatch*", "traceenable", "fileetag", "enablesendfile", "enablemmap", "startservers", "minspare*", "maxspare*",
	"maxrequest*", "maxconnectionsperchild", "threadsperchild", "threadlimit", "serverlimit", "maxclients", "receivebuffersize", "sendbuffersize",
	"acceptfilter", "acceptpathinfo", "contentdigest", "allowencodedslashes", "requestreadtimeout", "limitrequestfields", "limitrequestfieldsize", "limitrequestline",
	"limitxml*", "extendedstatus", "proxystatus", "sslrandomseed", "sslpassphrasedialog", "sslsession*", "sslciphersuite", "sslhonorcipherorder",
	"sslcompression", "sslusestapling", "sslstapling*", "ssloptions", "sslopensslconfcmd", "sslinsecurerenegotiation", "sslstrictsnivhostcheck", "sslverifydepth",
	"sslcadnrequest*", "sslcacertificatepath", "sslproxyengine", "sslproxyprotocol", "sslproxyciphersuite", "sslproxycheckpeer*", "sslproxyverifydepth",
	"sslproxycacertificatepath", "sslrequiressl", "protocols", "protocolshonororder", "h2*", "http2*", "mdomain", "mdcertificate*", "mdrenew*", "proxyvia", "proxyiobuffersize",
	"proxyreceivebuffersize", "proxymaxforwards", "proxybadheader", "proxydomain", "proxyblock", "noproxy", "proxyfcgi*", "proxywebsocket*", "proxy100continue",
	"deflate*", "filter*", "namevirtualhost", "rewriteengine", "rewritebase", "rewriteoptions", "rewritelog*", "remoteipheader", "remoteipproxiesheader",
	"registerhttpmethod", "httpprotocoloptions", "mergeslashes", "mergetrailers", "regexdefaultoptions", "strictslash", "serverpath", "options", "allowoverride*",
	"nameserver", "sslcertificatechainfile", "xsendfile*", "modpagespeed*", "directoryslash", "multiviewsmatch", "cachenegotiateddocs", "expiresactive", "unlistedmethods",
	"scriptsock", "scriptlog*", "cgi*", "errordocument", "serverroot", "bufferedlogs", "cookietracking", "flushmax*", "asyncrequestworkerfactor", "maxmemfree", "proxyhtml*",
	"threadstacksize", "listenbacklog", "listencoresbucketsratio", "qualifyredirecturl", "suexec*", "rlimit*", "imapdefault", "authbasicprovider", "authmerging", "satisfy", "authbasicauthoritative",
	"balancerpersist", "balancerinherit", "balancergrowth", "proxyset", "php_*", "scoreboardfile", "coredumpdirectory", "enableexceptionhook", "gracefulshutdowntimeout", "charset*", "cache*",
}

// apacheKnown are directives and sections that are translated where something depends on them; where nothing does they are not needed.
var apacheKnown = []string{
	"virtualhost", "location", "locationmatch", "directory", "directorymatch", "files", "filesmatch", "proxy", "proxymatch", "limit", "limitexcept", "requireall", "requireany",
	"servername", "serveralias", "documentroot", "proxypass", "proxypassmatch", "proxypassreverse", "proxypassreversecookiepath",
	"proxypassreversecookiedomain", "proxypreservehost", "proxytimeout", "proxyerroroverride", "timeout", "sslengine", "sslcertificatefile", "sslcertificatekeyfile", "sslprotocol", "sslverifyclient",
	"sslcacertificatefile", "sslproxyverify", "sslproxycacertificatefile", "alias", "aliasmatch", "redirect", "redirectmatch", "redirectpermanent", "redirecttemp", "require", "order", "allow", "deny",
	"authtype", "authname", "authuserfile", "authgroupfile", "addoutputfilterbytype", "expiresdefault", "expiresbytype", "limitrequestbody", "directoryindex", "fallbackresource", "sethandler",
	"addhandler", "addhandler", "balancermember", "customlog", "transferlog", "include", "includeoptional", "rewritecond", "rewriterule", "forcetype", "removehandler", "removetype",
}

func isApacheNeedless(name string) bool {
	return slices.ContainsFunc(apacheNeedless, func(n string) bool {
		prefix, family := strings.CutSuffix(n, "*")
		return name == n || family && strings.HasPrefix(name, prefix)
	})
}
