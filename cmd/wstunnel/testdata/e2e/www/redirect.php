<?php
// Redirects as applications do: with a path, or with an absolute URL made of Host.
$to = '/echo.php?from=redirect';
if (isset($_GET['absolute'])) {
    $to = "$_SERVER[HTTP_X_FORWARDED_PROTO]://$_SERVER[HTTP_HOST]$to";
}
header("Location: $to", true, 303);
