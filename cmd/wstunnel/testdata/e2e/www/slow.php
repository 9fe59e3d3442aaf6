<?php
// A page whose second half waits for the file that the query names.
require 'await.php';
echo "first half\n";
flush();
await($_GET['file']);
echo "second half\n";
