<?php
// Waits until a file is there, for half a minute at most.
function await(string $file): void
{
    for ($i = 0; $i < 3000 && !file_exists($file); $i++) {
        usleep(10_000);
        clearstatcache();
    }
}
