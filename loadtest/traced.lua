-- wrk: each request differs from all before it in one field, as with a trace id.
-- The run's time goes in, because a second run on the same proxy starts to count again.
local before, after
local count = 0
local run = os.time()

function init()
   wrk.headers["X-Trace"] = "@"
   local request = wrk.format()
   local place = request:find("@", 1, true)
   before, after = request:sub(1, place - 1), request:sub(place + 1)
end

function request()
   count = count + 1
   return string.format("%s%08x-%012x%s", before, run, count, after)
end
