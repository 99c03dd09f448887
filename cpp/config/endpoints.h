#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "formats/format.h"

namespace llm_proxy {

// What a method and path ask for. The table in endpoints.cc is the whole public surface of the
// proxy.
enum class Operation : std::uint8_t {
  none,          // no such path
  wrong_method,  // the path exists, the method does not
  generate,      // one of the four formats
  count_tokens,
  embeddings,    // relayed to a backend of the same format
  completions,   // OpenAI's legacy completions, likewise
  models,        // a list
  model,         // one of it
  stored,        // /v1/responses/{id} and what hangs below it
  conversation,  // /v1/conversations and what hangs below it
  health,
  ready,
  diagnostics,  // what every backend is at
  reactivate,   // POST …/backends/{instance}/reactivate: its cool-downs end
  metrics,
  hello,      // HEAD /api/hello: Claude Code asks whether anybody is there
  admin,      // /api/v1/…: answered by the hosting program
  preflight,  // a browser asks what a page may send
  websocket,  // an upgrade we do not offer: 426 at once
};

inline constexpr int kOperations = static_cast<int>(Operation::websocket) + 1;

// "generate", "count_tokens", ...: what logs, plugins and tests call it.
std::string_view name(Operation operation);

// What ring plugins are shown of a request before anything of it may leave the proxy.
enum class RingView : std::uint8_t {
  nothing,  // nothing of what a client wrote leaves: an exchange that tries to is stopped
  chat,     // the request as OpenAI chat
  prompts,  // the texts of one member, each as a message of a user
  stored,   // the stored request that the id in the path names, as OpenAI chat
};

// There is no default: who adds an operation says here what plugins see of it.
constexpr RingView ring_view(Operation operation) {
  switch (operation) {
    case Operation::generate:
    case Operation::count_tokens:
      return RingView::chat;
    case Operation::embeddings:
    case Operation::completions:
      return RingView::prompts;
    case Operation::stored:
      return RingView::stored;
    case Operation::conversation:  // kept here, and shown with the request that goes on from it
    case Operation::none:
    case Operation::wrong_method:
    case Operation::models:
    case Operation::model:
    case Operation::health:
    case Operation::ready:
    case Operation::diagnostics:
    case Operation::reactivate:
    case Operation::metrics:
    case Operation::hello:
    case Operation::admin:
    case Operation::preflight:
    case Operation::websocket:
      return RingView::nothing;
  }
  return RingView::nothing;
}

// Answered by the admin API, for its own keys.
constexpr bool is_admin(Operation operation) {
  return operation == Operation::admin || operation == Operation::metrics ||
         operation == Operation::diagnostics || operation == Operation::reactivate;
}

struct FrontendMatch {
  Operation operation = Operation::none;
  WireFormat format{};        // also the dialect of errors
  std::string_view rest;      // what the path names: stored response id and below, model of `model`
  std::string model;          // Gemini: decoded from the path
  bool stream = false;        // Gemini: :streamGenerateContent
  bool broken_model = false;  // Gemini: the path's model is not validly percent-encoded
  bool json_array = false;    // Gemini: a stream without alt=sse is one JSON array
  std::string_view query;     // without '?', as sent
};

// `path` and `query` outlive the match. `upgrade`: the request asks for a WebSocket. `anthropic`:
// an anthropic-version header is there (model lists differ by it).
FrontendMatch match_frontend(std::string_view method, std::string_view path, std::string_view query,
                             bool upgrade, bool anthropic);

// What to tell a client that asked where nothing is: the path it probably meant, else where to ask.
std::string nothing_at(std::string_view path);

// The same for the port that has Anthropic's API alone, at its root.
FrontendMatch match_anthropic(std::string_view method, std::string_view path,
                              std::string_view query, bool upgrade);

// The query without credentials in any spelling, without items that hold `key`, the client's own
// (empty: it has none), and without what tells a provider's front door to take the request for
// another one (Google's $httpMethod and its kin).
std::string without_credentials(std::string_view query, std::string_view key);

// A query item that decides something and is given twice, which two readers could take differently;
// empty if there is none.
std::string_view repeated_query_key(std::string_view query);

// The upstream's path for a generate request: `base_path` is the base URL's, which may or may not
// end in a version. The Error (malformed_request) refuses a model whose name is not one segment of
// a path, where the format has it there.
Result<std::string> upstream_path(const Format& format, std::string_view base_path,
                                  std::string_view model, bool stream);

// Where an upstream of this format counts a request's tokens; Chat has no such place.
Result<std::string> count_path(const Format& format, std::string_view base_path,
                               std::string_view model);

// Where an upstream of the Responses format keeps the response `id`; `below` is one of our own
// words such as "cancel", or empty.
Result<std::string> stored_path(std::string_view base_path, std::string_view id,
                                std::string_view below);

// Where an upstream of this format lists its models, with query.
std::string list_path(const Format& format, std::string_view base_path);

}  // namespace llm_proxy
