<?php
// A WebSocket server as people write them by hand: one stream_select loop, the handshake read
// with a single fread, its header names matched as RFC 6455 spells them. No extensions.
//
//     php ws.php tcp://127.0.0.1:0
//     php ws.php unix:///run/chat.sock
//     php ws.php tcp://127.0.0.1:0 unix:///run/wstunnel/control.sock
//
// It echoes messages. Text that begins with a slash is a command, see command(). A path that ends in
// /refuse is answered with 403. Close frames and connections that end without one are printed.
// Who somebody is, and in which groups, is said by the query: /ws?user=anna&groups=lobby,staff
// With the control socket of the front end, /say reaches whoever is in a group, on other servers too.

declare(strict_types=1);

const OP_CONTINUATION = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10;
const SUBPROTOCOLS = ['chat.v2', 'chat.v1']; // the best first

final class Client
{
    public string $in = '';       // received and not yet understood
    public string $out = '';      // to be sent
    public bool $open = false;    // the handshake is done
    public bool $closed = false;  // a Close frame was sent
    public bool $ending = false;  // nothing more is read; the connection ends when $out is sent
    public int $opcode = 0;       // of the message that $message is part of
    public string $message = '';
    public string $path = '';
    public string $user = '';
    /** @var array<string, string> names as they were received */
    public array $headers = [];

    /** @param resource $socket */
    public function __construct(public $socket) {}
}

$server = stream_socket_server($argv[1], $errno, $error);
if (!$server) {
    fwrite(STDERR, "cannot listen on $argv[1]: $error\n");
    exit(1);
}
stream_set_blocking($server, false);
echo 'listening on ', stream_socket_get_name($server, false), "\n";

/** @var array<int, Client> $clients */
$clients = [];
for (;;) {
    $read = [$server];
    $write = [];
    foreach ($clients as $client) {
        if (!$client->ending) {
            $read[] = $client->socket;
        }
        if ($client->out !== '') {
            $write[] = $client->socket;
        }
    }
    $except = null;
    if (stream_select($read, $write, $except, null) === false) {
        exit(1);
    }
    foreach ($read as $socket) {
        if ($socket === $server) {
            if ($socket = stream_socket_accept($server, 0)) {
                stream_set_blocking($socket, false);
                stream_set_read_buffer($socket, 0);
                $clients[(int) $socket] = new Client($socket);
            }
            continue;
        }
        receive($clients[(int) $socket]);
    }
    foreach ($clients as $id => $client) {
        flush_out($client);
        if ($client->ending && $client->out === '') {
            fclose($client->socket);
            unset($clients[$id]);
        }
    }
}

function receive(Client $client): void
{
    $bytes = fread($client->socket, $client->open ? 65536 : 2048);
    if ($bytes === false || $bytes === '') {
        if ($client->open) {
            echo "gone without Close\n";
        }
        $client->ending = true;
        $client->out = '';
        return;
    }
    if (!$client->open) {
        handshake($client, $bytes);
        return;
    }
    $client->in .= $bytes;
    while (!$client->ending && next_frame($client)) {
    }
}

function handshake(Client $client, string $bytes): void
{
    $end = strpos($bytes, "\r\n\r\n");
    if ($end === false || !preg_match('/\r\nSec-WebSocket-Key: (\S+)\r\n/', $bytes, $key)) {
        echo "bad handshake\n";
        $client->ending = true;
        return;
    }
    $lines = explode("\r\n", substr($bytes, 0, $end));
    $client->path = explode(' ', array_shift($lines))[1];
    foreach ($lines as $line) {
        [$name, $value] = explode(': ', $line, 2) + ['', ''];
        $client->headers[$name] = $value;
    }
    if (str_ends_with($client->path, '/refuse')) {
        $client->out = "HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\nX-Reason: closed\r\n\r\nno entry\n";
        $client->ending = true;
        return;
    }
    $accept = base64_encode(sha1($key[1] . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11', true));
    $client->out = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        . "Sec-WebSocket-Accept: $accept\r\nSet-Cookie: socket=seen; Path=/\r\n";
    $offered = preg_split('/\s*,\s*/', $client->headers['Sec-WebSocket-Protocol'] ?? '');
    if ($chosen = array_values(array_intersect(SUBPROTOCOLS, $offered))) {
        $client->out .= "Sec-WebSocket-Protocol: $chosen[0]\r\n";
    }
    parse_str((string) parse_url($client->path, PHP_URL_QUERY), $query);
    if (isset($query['user'])) {
        $client->user = $query['user'];
        $client->out .= "X-Wstunnel-User: $client->user\r\n";
    }
    if (isset($query['groups'])) {
        $client->out .= "X-Wstunnel-Groups: $query[groups]\r\n";
    }
    $client->out .= "\r\n";
    $client->open = true;
    $client->in = substr($bytes, $end + 4);
    while (!$client->ending && next_frame($client)) {
    }
}

/** Takes the next frame from what was received; false if it is not all there. */
function next_frame(Client $client): bool
{
    if (strlen($client->in) < 2) {
        return false;
    }
    [$first, $second] = [ord($client->in[0]), ord($client->in[1])];
    $length = $second & 0x7F;
    $at = 2;
    if ($length >= 126) {
        $at += $length === 126 ? 2 : 8;
        if (strlen($client->in) < $at) {
            return false;
        }
        $length = unpack($length === 126 ? 'n' : 'J', $client->in, 2)[1];
    }
    if (!($second & 0x80) || $first & 0x70) {
        send_close($client, 1002, $second & 0x80 ? 'reserved bit' : 'no mask');
        $client->ending = true;
        return false;
    }
    if (strlen($client->in) < $at + 4 + $length) {
        return false;
    }
    $mask = substr($client->in, $at, 4);
    $payload = substr($client->in, $at + 4, $length);
    $payload ^= substr(str_repeat($mask, intdiv($length, 4) + 1), 0, $length);
    $client->in = substr($client->in, $at + 4 + $length);
    frame($client, $first & 0x0F, ($first & 0x80) !== 0, $payload);
    return true;
}

function frame(Client $client, int $opcode, bool $final, string $payload): void
{
    switch ($opcode) {
        case OP_CLOSE:
            echo 'close ', strlen($payload) < 2 ? 1005 : unpack('n', $payload)[1], ' ', substr($payload, 2), "\n";
            if (!$client->closed) {
                send($client, OP_CLOSE, $payload);
            }
            $client->ending = true;
            return;
        case OP_PING:
            send($client, OP_PONG, $payload);
            return;
        case OP_PONG:
            send($client, OP_TEXT, "pong $payload");
            return;
        case OP_CONTINUATION:
            $client->message .= $payload;
            break;
        default:
            [$client->opcode, $client->message] = [$opcode, $payload];
    }
    if (!$final) {
        return;
    }
    [$message, $client->message] = [$client->message, ''];
    if ($client->opcode === OP_TEXT && str_starts_with($message, '/')) {
        command($client, $message);
    } else {
        send($client, $client->opcode, $message);
    }
}

function command(Client $client, string $text): void
{
    $words = explode(' ', $text, 3);
    switch ($words[0]) {
        case '/request':   // what the handshake looked like
            send($client, OP_TEXT, json_encode(['path' => $client->path, 'headers' => $client->headers]));
            return;
        case '/close':     // /close [CODE [REASON]]
            send_close($client, (int) ($words[1] ?? 0), $words[2] ?? '');
            return;
        case '/drop':      // the connection ends without a Close frame
            $client->ending = true;
            return;
        case '/ping':      // the answer is "pong" and the payload
            send($client, OP_PING, $words[1]);
            return;
        case '/fragments': // one message in three frames
            send($client, OP_TEXT, 'one ', false);
            send($client, OP_CONTINUATION, 'two ', false);
            send($client, OP_CONTINUATION, 'three');
            return;
        case '/say':       // /say GROUP TEXT; the answer is how many have it
            send($client, OP_TEXT, say($words[1], "$client->user: $words[2]"));
            return;
    }
    send_close($client, 4000, 'unknown command');
}

/** Says a text to all who are in a group, whichever server they are connected to. */
function say(string $group, string $text): string
{
    global $argv;
    $control = stream_socket_client($argv[2]); // anew, since one that says nothing for long is closed
    fwrite($control, "SEND GROUP $group " . json_encode($text) . "\n");
    return rtrim((string) fgets($control));
}

function send_close(Client $client, int $code, string $reason): void
{
    send($client, OP_CLOSE, $code ? pack('n', $code) . $reason : '');
    $client->closed = true;
}

function send(Client $client, int $opcode, string $payload, bool $final = true): void
{
    $length = strlen($payload);
    $head = chr($opcode | ($final ? 0x80 : 0));
    $head .= match (true) {
        $length < 126 => chr($length),
        $length < 65536 => chr(126) . pack('n', $length),
        default => chr(127) . pack('J', $length),
    };
    $client->out .= $head . $payload;
}

function flush_out(Client $client): void
{
    if ($client->out === '') {
        return;
    }
    $sent = @fwrite($client->socket, $client->out);
    if ($sent === false) {
        $client->ending = true;
        $client->out = '';
        return;
    }
    $client->out = substr($client->out, $sent);
}
