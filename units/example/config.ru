# Hello, for puma.
RELEASE = 1

run ->(_env) { [200, { "content-type" => "text/plain" }, ["release #{RELEASE}\n"]] }
