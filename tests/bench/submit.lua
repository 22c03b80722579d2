-- wrk: submissions with ids of their own, which begin like WeChat's with anything (in order they would be an easy case
-- for whoever sorts them), in the seed's format, and a count of answers that are not rc 0.
--   wrk … -s submit.lua URL -- PREFIX IDS_A_SUBMISSION COOKIE
local threads = {}

function setup(thread)
    thread:set("number", #threads)
    table.insert(threads, thread)
end

function init(arguments)
    prefix = arguments[1] .. "-" .. number .. "-"
    ids = tonumber(arguments[2])
    made, taken, refused = 0, 0, 0
    local seed = 0
    for at = 1, #prefix do
        seed = (seed * 31 + prefix:byte(at)) % 2147483647
    end
    math.randomseed(seed)
    wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
    wrk.headers["Accept-Language"] = "zh-CN"
    if arguments[3] and arguments[3] ~= "" then
        wrk.headers["Cookie"] = arguments[3]
    end
end

local function anything(length)
    local letters = {}
    for at = 1, length do
        local number = math.random(0, 61)
        letters[at] = string.char(number + (number < 10 and 48 or number < 36 and 55 or 61))
    end
    return table.concat(letters)
end

function request()
    local list = {}
    for at = 1, ids do
        -- As long as WeChat's ids are, 64 characters.
        local id = anything(16) .. prefix .. made .. "-" .. at .. "-"
        list[at] = "%22" .. id .. string.rep("x", 64 - #id) .. "%22"
    end
    made = made + 1
    return wrk.format("POST", nil, nil, "data=%7B%22imgIds%22%3A%5B" .. table.concat(list, "%2C") .. "%5D%7D")
end

function response(status, headers, body)
    if status == 200 and string.find(body, '"rc": ?0') then
        taken = taken + 1
    else
        refused = refused + 1
    end
end

function done(summary, latency)
    local taken, refused = 0, 0
    for _, thread in ipairs(threads) do
        taken = taken + thread:get("taken")
        refused = refused + thread:get("refused")
    end
    io.write(string.format('RESULT {"seconds": %.6f, "taken": %d, "refused": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
        summary.duration / 1e6, taken, refused, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
