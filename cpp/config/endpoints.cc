#include "config/endpoints.h"

#include <algorithm>
#include <array>

#include "http/head.h"
#include "http/url.h"

namespace llm_proxy {
namespace {

struct Row {
  std::string_view method;
  std::string_view path;
  Operation operation;
  WireFormat format;
};

constexpr auto kChat = WireFormat::openai_chat;
constexpr auto kResponses = WireFormat::openai_responses;
constexpr auto kMessages = WireFormat::anthropic_messages;
constexpr auto kGemini = WireFormat::gemini_generate;

// Exact paths. GET rows answer HEAD too.
constexpr std::array kRows{
    Row{"POST", "/v1/chat/completions", Operation::generate, kChat},
    Row{"POST", "/chat/completions", Operation::generate, kChat},
    Row{"POST", "/v1/responses", Operation::generate, kResponses},
    Row{"POST", "/responses", Operation::generate, kResponses},
    Row{"POST", "/v1/responses/input_tokens", Operation::count_tokens, kResponses},
    Row{"POST", "/v1/messages", Operation::generate, kMessages},
    Row{"POST", "/anthropic/v1/messages", Operation::generate, kMessages},
    Row{"POST", "/v1/messages/count_tokens", Operation::count_tokens, kMessages},
    Row{"POST", "/anthropic/v1/messages/count_tokens", Operation::count_tokens, kMessages},
    Row{"POST", "/v1/embeddings", Operation::embeddings, kChat},
    Row{"POST", "/v1/completions", Operation::completions, kChat},
    Row{"GET", "/v1/models", Operation::models, kChat},
    Row{"GET", "/models", Operation::models, kChat},
    Row{"GET", "/anthropic/v1/models", Operation::models, kMessages},
    Row{"GET", "/v1beta/models", Operation::models, kGemini},
    Row{"GET", "/v1alpha/models", Operation::models, kGemini},
    Row{"GET", "/health", Operation::health, kChat},
    Row{"GET", "/healthz", Operation::health, kChat},
    Row{"GET", "/anthropic/health", Operation::health, kMessages},
    Row{"GET", "/internal/health", Operation::health, kChat},
    Row{"GET", "/readyz", Operation::ready, kChat},
    Row{"GET", "/v1/diagnostics", Operation::diagnostics, kChat},
    Row{"GET", "/metrics", Operation::metrics, kChat},
    Row{"GET", "/api/hello", Operation::hello, kMessages},
};

bool method_matches(std::string_view row, std::string_view method) {
  return row == method || (row == "GET" && method == "HEAD");
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// "/v1beta/models/{model}:method", model possibly with slashes and colons: the last colon
// separates.
bool match_gemini(std::string_view method, std::string_view path, FrontendMatch& match) {
  if (!take_prefix(path, "/v1beta/models/") && !take_prefix(path, "/v1alpha/models/") &&
      !take_prefix(path, "/v1/models/")) {
    return false;
  }
  match.format = kGemini;
  const auto colon = path.rfind(':');
  const auto verb = colon == std::string_view::npos ? std::string_view() : path.substr(colon + 1);
  if (verb == "generateContent" || verb == "streamGenerateContent" || verb == "countTokens") {
    match.operation = verb == "countTokens" ? Operation::count_tokens : Operation::generate;
    match.stream = verb == "streamGenerateContent";
    if (auto model = percent_decode(path.substr(0, colon))) {
      match.model = *std::move(model);
    } else {
      match.broken_model = true;
    }
    const auto alt = query_value(match.query, "alt").value_or(std::string());
    // The reference's plain method with alt=sse streams too.
    if (verb == "generateContent" && alt == "sse") match.stream = true;
    match.json_array = match.stream && alt != "sse";
    if (method != "POST") match.operation = Operation::wrong_method;
    return true;
  }
  match.operation = method_matches("GET", method) ? Operation::model : Operation::wrong_method;
  match.rest = path;
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

  bool path_known = false;
  for (const auto& row : kRows) {
    if (row.path != path) continue;
    path_known = true;
    match.format = row.format;
    if (!method_matches(row.method, method)) continue;
    match.operation = row.operation;
    if (row.operation == Operation::models && row.path == "/v1/models" && anthropic)
      match.format = kMessages;
    return match;
  }
  if (path_known) {
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
  // /v1/models/{id} asks for one entry in OpenAI's or Anthropic's shape; with a Gemini verb it is
  // Gemini's v1.
  if (match_gemini(method, path, match)) {
    if (match.operation == Operation::model && path.starts_with("/v1/models/")) {
      match.format = anthropic ? kMessages : kChat;
    }
    return match;
  }
  if (path.starts_with("/anthropic/")) match.format = kMessages;
  if (path.starts_with("/v1beta/")) match.format = kGemini;
  if (path.starts_with("/v1/messages")) match.format = kMessages;
  return match;
}

std::string nothing_at(std::string_view path) {
  const auto text = "there is nothing at " + std::string(path);
  const auto whole = without_slashes(path);
  // A base URL with a part too many ("…/v1" given to an SDK that adds it), or too few.
  for (const auto& row : kRows) {
    const bool too_long = whole.size() > row.path.size() && whole.ends_with(row.path);
    const bool too_short =
        whole.size() > 1 && row.path.size() > whole.size() && row.path.ends_with(whole);
    if (too_long || too_short) {
      return text + ": did you mean " + std::string(row.path) + "? Look at the client's base URL";
    }
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

Result<std::string> count_path(WireFormat format, std::string_view base_path,
                               std::string_view model) {
  auto out = upstream_path(format, base_path, model, false);
  if (!out) return out;
  if (format == kResponses) return *out + "/input_tokens";
  if (format == kMessages) return *out + "/count_tokens";
  return out->replace(out->rfind(':'), std::string::npos, ":countTokens");
}

Result<std::string> stored_path(std::string_view base_path, std::string_view id,
                                std::string_view below) {
  auto out = upstream_path(kResponses, base_path, {}, false);
  auto segment = encode_path_segment(id);
  if (!segment) return segment;
  *out += '/';
  *out += *segment;
  if (!below.empty()) (*out += '/') += below;
  return out;
}

std::string list_path(WireFormat format, std::string_view base_path) {
  auto out = without_slashes(base_path);
  if (format == kMessages) return out + (ends_in_version(out) ? "" : "/v1") + "/models?limit=1000";
  if (format == kGemini) {
    return out + (ends_in_version(out) ? "" : "/v1beta") + "/models?pageSize=1000";
  }
  return out + "/models";
}

Result<std::string> upstream_path(WireFormat format, std::string_view base_path,
                                  std::string_view model, bool stream) {
  auto out = without_slashes(base_path);
  switch (format) {
    case kChat:
      return out + "/chat/completions";
    case kResponses:
      return out + "/responses";
    case kMessages:
      return out + (ends_in_version(out) ? "/messages" : "/v1/messages");
    case kGemini: {
      auto segment = encode_path_segment(model);
      if (!segment) {
        auto error = std::move(segment).error();
        error.message = "the model's name: " + error.message;
        error.param = "model";
        return error;
      }
      if (!ends_in_version(out)) out += "/v1beta";
      return out + "/models/" + *segment + (stream ? ":streamGenerateContent" : ":generateContent");
    }
  }
  return out;
}

}  // namespace llm_proxy
