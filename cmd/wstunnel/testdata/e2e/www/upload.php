<?php
// Reports the uploaded file.
header('Content-Type: application/json');
$file = $_FILES['file'];
echo json_encode([
    'name' => $file['name'],
    'size' => $file['size'],
    'error' => $file['error'],
    'sha256' => hash_file('sha256', $file['tmp_name']),
    'title' => $_POST['title'],
]);
