#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/format.h"
#include "model/wire_format.h"

namespace llm_proxy {

// One configured way to an answer: an upstream URL with its keys, the built-in echo, or a hosted
// (Python) backend. Immutable part of a snapshot; shared by all workers.
struct Backend {
  enum class Kind : std::uint8_t {
    http,    // a URL that speaks one of the wire formats
    echo,    // the built-in answerer, no network
    python,  // a Python backend plugin, by instance name
  };

  // Which of its keys a request takes, among those that do not rest.
  enum class KeyPolicy : std::uint8_t { round_robin, fill_first, least_recently_limited };

  std::string name;  // the instance: "openai", "openai.2"
  std::string type;  // the catalog row: "openai"
  Kind kind = Kind::http;
  WireFormat format{};
  std::string base_url;     // "https://api.openai.com/v1": the part before the format's own path
  std::string auth_header;  // "authorization", "x-api-key", "x-goog-api-key"; empty: none
  std::string auth_prefix;  // "Bearer " or empty
  std::vector<std::string> keys;
  KeyPolicy key_policy = KeyPolicy::round_robin;
  std::vector<std::pair<std::string, std::string>> headers;  // sent with every request
  std::vector<std::string> models;                           // known models; empty: any
  std::string models_path;  // where it lists them, below the host; empty: the format's own place
  // Where else its models are listed: those a local server passes on to its maker's cloud. Their
  // names get ":cloud", or "-cloud" behind a tag.
  std::string cloud_models_url;
  // One server, two formats: a second backend of the same name that serves these models alone.
  std::vector<std::string> only_models;
  std::vector<std::string> vendor_prefixes;  // "zhipu/": taken off a model's name
  std::map<std::string, std::string, std::less<>> model_names;  // that the server knows otherwise
  std::chrono::milliseconds timeout{0};  // silence; 0: the configuration's own
  bool client_headers = true;            // a client of its format may send it its own
  bool loop_guard = true;                // tell it that a proxy asks
  bool hosted_key = false;               // a Python plugin lends the key; `keys` is empty
  double routing_cost = 1e6;             // of a model that others have too
  double routing_priority = 0;           // likewise
  Quirks quirks;
};

// What the server is asked for: `model` without the vendor before it, under the name it has there.
std::string sent_name(const Backend& backend, std::string_view model);

}  // namespace llm_proxy
