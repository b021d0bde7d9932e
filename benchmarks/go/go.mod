module benchmarks

go 1.23
