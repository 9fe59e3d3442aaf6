<?php
// Sets two cookies, and counts the visits of a session.
session_start();
$_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
setcookie('theme', 'dark mode; "quoted"', ['path' => '/', 'samesite' => 'Lax']);
setcookie('secret', 'x', ['path' => '/', 'httponly' => true]);
echo $_SESSION['visits'];
