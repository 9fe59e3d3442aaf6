<?php
// What pages that answer bit by bit need.

// Nothing is kept for later, whatever php.ini says of output_buffering.
while (ob_get_level() > 0) {
    ob_end_flush();
}
ob_implicit_flush();

// Waits until a file is there, for half a minute at most.
function await(string $file): void
{
    for ($i = 0; $i < 3000 && !file_exists($file); $i++) {
        usleep(10_000);
        clearstatcache();
    }
}
