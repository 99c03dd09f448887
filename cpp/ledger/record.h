#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "model/usage.h"
#include "model/wire_format.h"

namespace llm_proxy {

// What is known of one finished exchange: for the access log, the metrics and the usage ledger.
// Holds no content and no secret.
struct ExchangeRecord {
  std::chrono::system_clock::time_point began;
  std::chrono::microseconds duration{0};
  std::chrono::microseconds first_byte{0};  // until the first byte for the client; 0: none was sent
  std::string request_id;
  std::string client;  // address without port
  std::string method;
  std::string path;  // without the query: it may hold a key
  int status = 0;    // what the client was told; 499 when it had left before
  WireFormat frontend{};
  WireFormat upstream{};
  std::string model;           // as asked
  std::string upstream_model;  // as sent
  std::string backend;         // instance; empty: none was asked
  int attempts = 0;
  std::string tried;  // what failed before: "openai/2:rate_limited,azure:upstream_timeout"
  bool stream = false;
  std::uint64_t request_bytes = 0;
  std::uint64_t reply_bytes = 0;
  Usage usage;
  std::string finish;   // the upstream's word
  std::string error;    // kind and message; empty: none
  std::string blocked;  // by which plugin: "pre_flight/Topic Blocklist:topic_blocked"; empty: none
  std::string losses;   // what a translation could not carry, comma-separated
};

// Appends one line of the access log, without a line end: time, client, method, path, then
// key=value pairs. Values that are not one plain token are quoted, and what could break a line or a
// terminal is written \xNN.
void append_access_line(const ExchangeRecord& record, std::string& out);

// The same as one JSON object, for machines; absent: unknown.
void append_access_json(const ExchangeRecord& record, std::string& out);

}  // namespace llm_proxy
