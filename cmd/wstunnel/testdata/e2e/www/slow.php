<?php
// A page whose second half waits for the file that the query names.
require 'stream.php';
echo "first half\n";
await($_GET['file']);
echo "second half\n";
