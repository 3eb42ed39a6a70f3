// The StatsD daemon (npm install statsd) between gproxy and Graphite: node_modules/.bin/statsd statsd.js
// Variables of the environment stand in for what differs from machine to machine.
{
  port: Number(process.env.STATSD_PORT || 8125),
  address: process.env.STATSD_ADDRESS || "127.0.0.1", // where gproxy sends to
  mgmt_port: Number(process.env.STATSD_MGMT_PORT || 8126),
  mgmt_address: "127.0.0.1",
  graphiteHost: process.env.GRAPHITE_HOST || "127.0.0.1",
  graphitePort: Number(process.env.GRAPHITE_PORT || 2003),

  // Milliseconds. It must be the finest retention in storage-schemas.conf: of two flushes in
  // one slot Graphite keeps the second alone, and the first one's counts are lost.
  flushInterval: Number(process.env.STATSD_FLUSH_INTERVAL || 10000),

  // Else StatsD repeats the last gauges of a proxy that is gone, for ever. With 2, one push that comes
  // a little late leaves no gap.
  deleteGauges: true,
  gaugesMaxTTL: 2,
  // A proxy that lives sends its zeros; of one that is gone, StatsD need send none.
  deleteCounters: true,

  // stats.counters.NAME.count and .rate, stats.gauges.NAME: storage-aggregation.conf goes by these.
  graphite: { legacyNamespace: false },
  title: false // else it writes over its arguments, and ps shows no file name
}
