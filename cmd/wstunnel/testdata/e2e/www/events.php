<?php
// Server-sent events. The second one waits for the file that the query names, so that whoever
// gets the first one before making that file knows that nothing kept it back.
require 'stream.php';
header('Content-Type: text/event-stream');
header('Cache-Control: no-cache');
echo "id: 1\ndata: first\n\n";
await($_GET['file']);
echo "id: 2\ndata: second\n\n";
