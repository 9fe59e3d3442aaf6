<?php
setcookie('session', 'abc', ['path' => '/', 'httponly' => true]);
?>
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>WebSocket test page</title>
<link rel="icon" href="data:,">
<script>
// connect opens a socket to this page's own server. What arrives is queued for next(); closed
// resolves when it is over.
function connect(path, protocols = []) {
  const socket = new WebSocket(location.origin.replace(/^http/, 'ws') + path, protocols);
  socket.binaryType = 'arraybuffer';
  const messages = [], waiting = [];
  socket.onmessage = event => waiting.length ? waiting.shift()(event.data) : messages.push(event.data);
  socket.next = () => messages.length ? messages.shift() : new Promise(resolve => waiting.push(resolve));
  socket.ask = message => { socket.send(message); return socket.next(); };
  socket.closed = new Promise(resolve => {
    socket.onclose = ({code, reason, wasClean}) => resolve({code, reason, wasClean});
  });
  socket.opened = new Promise((resolve, reject) => {
    socket.onopen = () => resolve(socket);
    socket.onerror = () => reject(new Error('the socket could not be opened'));
  });
  return socket.opened;
}
</script>
</html>
