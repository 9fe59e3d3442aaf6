<?php
// What PHP makes of a request.
header('Content-Type: application/json');
echo json_encode([
    'method' => $_SERVER['REQUEST_METHOD'],
    'uri' => $_SERVER['REQUEST_URI'],
    'get' => $_GET,
    'post' => $_POST,
    'cookies' => $_COOKIE,
    'host' => $_SERVER['HTTP_HOST'],
    'forwarded' => [
        'for' => $_SERVER['HTTP_X_FORWARDED_FOR'] ?? '',
        'host' => $_SERVER['HTTP_X_FORWARDED_HOST'] ?? '',
        'proto' => $_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '',
    ],
]);
