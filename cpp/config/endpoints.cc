#include "config/endpoints.h"

#include <algorithm>
#include <array>
#include <optional>

#include "http/head.h"
#include "http/url.h"

namespace llm_proxy {
namespace {

struct Row {
  std::string_view method;
  std::string_view path;
  Operation operation;
  WireFormat format;  // of errors
};

constexpr auto kChat = WireFormat::openai_chat;
constexpr auto kResponses = WireFormat::openai_responses;
constexpr auto kMessages = WireFormat::anthropic_messages;

// Exact paths beside those of the formats. GET rows answer HEAD too.
constexpr std::array kRows{
    Row{"POST", "/v1/embeddings", Operation::embeddings, kChat},
    Row{"POST", "/v1/completions", Operation::completions, kChat},
    Row{"GET", "/health", Operation::health, kChat},
    Row{"GET", "/healthz", Operation::health, kChat},
    Row{"GET", "/anthropic/health", Operation::health, kMessages},
    Row{"GET", "/internal/health", Operation::health, kChat},
    Row{"GET", "/readyz", Operation::ready, kChat},
    Row{"GET", "/v1/diagnostics", Operation::diagnostics, kChat},
    Row{"GET", "/metrics", Operation::metrics, kChat},
    Row{"GET", "/api/hello", Operation::hello, kMessages},
};

Row row_of(const ClientPath& path, WireFormat format) {
  switch (path.what) {
    case Asked::generate:
      return {"POST", path.path, Operation::generate, format};
    case Asked::count_tokens:
      return {"POST", path.path, Operation::count_tokens, format};
    case Asked::models:
      return {"GET", path.path, Operation::models, format};
  }
  return {};
}

// The first exact path, of the formats' and ours, of which `wanted(row)` is true.
template <class Wanted>
std::optional<Row> find_row(Wanted wanted) {
  for (const Format* const format : all_formats()) {
    for (const ClientPath& path : format->client_paths) {
      const Row row = row_of(path, format->id);
      if (wanted(row)) return row;
    }
  }
  for (const Row& row : kRows) {
    if (wanted(row)) return row;
  }
  return std::nullopt;
}

bool method_matches(std::string_view row, std::string_view method) {
  return row == method || (row == "GET" && method == "HEAD");
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// PREFIX MODEL ":" VERB, the model possibly with slashes and colons: the last colon separates.
// Without a verb it asks for one entry of the list of models.
bool match_verbs(const Format& format, std::string_view method, std::string_view path,
                 FrontendMatch& match) {
  const VerbPaths& verbs = format.verb_paths;
  if (std::ranges::none_of(verbs.prefixes,
                           [&](std::string_view prefix) { return take_prefix(path, prefix); })) {
    return false;
  }
  match.format = format.id;
  const auto colon = path.rfind(':');
  const auto verb = colon == std::string_view::npos ? std::string_view() : path.substr(colon + 1);
  const bool counts = verb == verbs.count;
  if (verb.empty() || (verb != verbs.generate && verb != verbs.stream && !counts)) {
    match.operation = method_matches("GET", method) ? Operation::model : Operation::wrong_method;
    match.rest = path;
    return true;
  }
  match.operation = counts ? Operation::count_tokens : Operation::generate;
  if (auto model = percent_decode(path.substr(0, colon))) {
    match.model = *std::move(model);
  } else {
    match.broken_model = true;
  }
  const bool events =
      query_value(match.query, verbs.events_item).value_or(std::string()) == verbs.events_value;
  // The reference's plain method with alt=sse streams too.
  match.stream = verb == verbs.stream || (verb == verbs.generate && events);
  match.json_array = match.stream && !events;
  if (method != "POST") match.operation = Operation::wrong_method;
  return true;
}

std::string without_slashes(std::string_view path) {
  while (path.ends_with('/')) path.remove_suffix(1);
  return std::string(path);
}

bool ends_in_version(std::string_view path) {
  const auto last = path.substr(path.rfind('/') + 1);
  return last.size() > 1 && last[0] == 'v' && last[1] >= '0' && last[1] <= '9';
}

// Names of query items that hold a credential somewhere, or that Google's front door takes for the
// method and the header of another request.
constexpr std::array<std::string_view, 17> kWithheldItems{"key",
                                                          "api-key",
                                                          "apikey",
                                                          "x-api-key",
                                                          "x-goog-api-key",
                                                          "access-token",
                                                          "oauth-token",
                                                          "bearer-token",
                                                          "auth-token",
                                                          "session-token",
                                                          "token",
                                                          "auth",
                                                          "authorization",
                                                          "password",
                                                          "subscription-key",
                                                          "x-http-method-override",
                                                          "http-method"};

// Items that decide what is done, here or at the provider.
constexpr std::array<std::string_view, 10> kDecidingItems{
    "key",   "alt",   "$alt",  "api-version", "stream",
    "order", "limit", "after", "before",      "starting_after"};

}  // namespace

std::string_view name(Operation operation) {
  constexpr std::array<std::string_view, kOperations> kNames{
      "none",        "wrong_method", "generate",    "count_tokens", "embeddings",
      "completions", "models",       "model",       "stored",       "conversation",
      "health",      "ready",        "diagnostics", "reactivate",   "metrics",
      "hello",       "admin",        "preflight",   "websocket"};
  static_assert(!kNames.back().empty(), "an operation has no name");
  return kNames[static_cast<std::size_t>(operation)];
}

std::string without_credentials(std::string_view query, std::string_view key) {
  const auto holds_key = [key](std::string_view text) {
    return !key.empty() && text.find(key) != std::string_view::npos;
  };
  return filtered_query(query, [&](std::string_view name, std::string_view value) {
    // Google's system parameters begin with "$".
    return name.starts_with('$') || holds_key(name) || holds_key(value) ||
           std::any_of(kWithheldItems.begin(), kWithheldItems.end(),
                       [&](std::string_view each) { return same_field(each, name); });
  });
}

std::string_view repeated_query_key(std::string_view query) {
  if (query.find('&') == std::string_view::npos) return {};
  for (const auto name : kDecidingItems) {
    if (repeats_query_key(query, name)) return name;
  }
  return {};
}

FrontendMatch match_frontend(std::string_view method, std::string_view path, std::string_view query,
                             bool upgrade, bool anthropic) {
  FrontendMatch match;
  match.query = query;
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);

  std::optional<WireFormat> known;  // the format of a path that is there, with another method
  const auto row = find_row([&](const Row& each) {
    if (each.path != path) return false;
    known = each.format;
    return method_matches(each.method, method);
  });
  if (row) {
    match.format = row->format;
    match.operation = row->operation;
    if (row->operation == Operation::models && row->path == "/v1/models" && anthropic)
      match.format = kMessages;
    return match;
  }
  if (known) {
    match.format = *known;
    match.operation = upgrade ? Operation::websocket : Operation::wrong_method;
    return match;
  }
  if (auto rest = path; take_prefix(rest, "/v1/responses/")) {
    match.format = kResponses;
    match.operation = Operation::stored;
    match.rest = rest;
    return match;
  }
  if (auto rest = path; take_prefix(rest, "/v1/conversations")) {
    if (rest.empty() || take_prefix(rest, "/")) {
      match.format = kResponses;
      match.operation = Operation::conversation;
      match.rest = rest;
      return match;
    }
  }
  if (auto rest = path; take_prefix(rest, "/v1/diagnostics/backends/") && rest.size() > 11 &&
                        rest.ends_with("/reactivate")) {
    match.operation = method == "POST" ? Operation::reactivate : Operation::wrong_method;
    match.rest = rest.substr(0, rest.size() - 11);
    return match;
  }
  if (path.starts_with("/api/v1/")) {
    match.operation = Operation::admin;
    match.rest = path.substr(8);
    return match;
  }
  // /v1/models/{id} asks for one entry in OpenAI's or Anthropic's shape; with a verb it is Gemini's
  // v1.
  for (const Format* const format : all_formats()) {
    if (!match_verbs(*format, method, path, match)) continue;
    if (match.operation == Operation::model && path.starts_with("/v1/models/")) {
      match.format = anthropic ? kMessages : kChat;
    }
    return match;
  }
  for (const Format* const format : all_formats()) {
    for (const std::string_view prefix : format->prefixes) {
      if (path.starts_with(prefix)) match.format = format->id;
    }
  }
  return match;
}

std::string nothing_at(std::string_view path) {
  const auto text = "there is nothing at " + std::string(path);
  const auto whole = without_slashes(path);
  // A base URL with a part too many ("…/v1" given to an SDK that adds it), or too few.
  const auto meant = find_row([&](const Row& row) {
    const bool too_long = whole.size() > row.path.size() && whole.ends_with(row.path);
    const bool too_short =
        whole.size() > 1 && row.path.size() > whole.size() && row.path.ends_with(whole);
    return too_long || too_short;
  });
  if (meant) {
    return text + ": did you mean " + std::string(meant->path) + "? Look at the client's base URL";
  }
  return text +
         ": clients ask at /v1/chat/completions, /v1/responses, /v1/messages or "
         "/v1beta/models/MODEL:generateContent; GET /v1/models lists the models";
}

FrontendMatch match_anthropic(std::string_view method, std::string_view path,
                              std::string_view query, bool upgrade) {
  auto match = match_frontend(method, path, query, upgrade, /*anthropic=*/true);
  const bool about_us = match.operation == Operation::health || match.operation == Operation::ready;
  if (match.format != kMessages && !about_us) match.operation = Operation::none;
  match.format = kMessages;
  return match;
}

namespace {

// `path` of an upstream below `base_path`, which may or may not end in a version, with the model in
// its place.
Result<std::string> below_base(const Format& format, std::string_view base_path,
                               std::string_view path, std::string_view model) {
  constexpr std::string_view kModel = "{model}";
  auto out = without_slashes(base_path);
  if (!ends_in_version(out)) out += format.upstream.version;
  const auto place = path.find(kModel);
  if (place == std::string_view::npos) return out.append(path);
  const auto segment = encode_path_segment(model);
  if (!segment) {
    auto error = segment.error();
    error.message = "the model's name: " + error.message;
    error.param = "model";
    return error;
  }
  return out.append(path.substr(0, place))
      .append(*segment)
      .append(path.substr(place + kModel.size()));
}

}  // namespace

Result<std::string> count_path(const Format& format, std::string_view base_path,
                               std::string_view model) {
  return below_base(format, base_path, format.upstream.count, model);
}

Result<std::string> stored_path(std::string_view base_path, std::string_view id,
                                std::string_view below) {
  auto out = upstream_path(format_of(kResponses), base_path, {}, false);
  auto segment = encode_path_segment(id);
  if (!segment) return segment;
  *out += '/';
  *out += *segment;
  if (!below.empty()) (*out += '/') += below;
  return out;
}

std::string list_path(const Format& format, std::string_view base_path) {
  return *below_base(format, base_path, format.upstream.list, {});
}

Result<std::string> upstream_path(const Format& format, std::string_view base_path,
                                  std::string_view model, bool stream) {
  const UpstreamPaths& paths = format.upstream;
  const bool own = stream && !paths.stream.empty();
  return below_base(format, base_path, own ? paths.stream : paths.generate, model);
}

}  // namespace llm_proxy
