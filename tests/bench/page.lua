-- wrk: pages, and a count of answers that are not 200.
function done(summary, latency)
    local refused = summary.errors.status
    io.write(string.format('RESULT {"seconds": %.6f, "taken": %d, "refused": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
        summary.duration / 1e6, summary.requests - refused, refused,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
