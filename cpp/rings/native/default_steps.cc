// The default plugins' steps. Each has a Python function of its name in
// llm_proxy.rings.builtin.default, which says what it does; here is what nearly every exchange
// needs of it.

#include <algorithm>
#include <array>
#include <cmath>

#include "base/ascii.h"
#include "rings/native/native_plugin.h"
#include "rings/native/pii.h"

namespace llm_proxy {
namespace {

using Edits = std::vector<std::pair<std::string_view, std::string>>;
using Place = ChatText::Place;

bool has(std::string_view text, std::string_view piece) {
  return text.find(piece) != std::string_view::npos;
}

// A lone surrogate, which only Python's strings can hold.
bool may_hold_surrogates(std::string_view raw) {
  return has(raw, "\\ud") || has(raw, "\\uD");
}

// ---- ring 1

// Nothing but the address itself is asked who it belongs to; it never says.
NativeStep verify(NativeExchange&) {
  return NativeStep::done;
}

// ---- the minifier

constexpr std::size_t kMinCharacters = 1000;

// Whether a text could become shorter, as far as its raw form says. No false "no".
bool may_shorten(std::string_view raw) {
  if (raw.size() <= kMinCharacters) return false;
  const auto blank_ends = [&](std::size_t end) {
    return end > 0 &&
           (raw[end - 1] == ' ' || (raw[end - 1] == 't' && end > 1 && raw[end - 2] == '\\'));
  };
  if (blank_ends(raw.size())) return true;
  int breaks = 0;
  std::size_t behind = 0;  // the last line break
  for (auto at = raw.find('\\'); at < raw.size() - 1; at = raw.find('\\', at + 2)) {
    if (raw[at + 1] == 'u') return true;
    if (raw[at + 1] != 'n') continue;
    breaks = behind == at ? breaks + 1 : 1;
    behind = at + 2;
    if (breaks == 3 || blank_ends(at)) return true;
  }
  return false;
}

bool has_fence(std::string_view text) {
  for (std::size_t line = 0;;) {
    auto at = line;
    while (at < text.size() && text[at] == ' ' && at - line < 3) ++at;
    const auto rest = text.substr(at, 3);
    if (rest == "```" || rest == "~~~") return true;
    const auto end = text.find('\n', line);
    if (end == std::string_view::npos) return false;
    line = end + 1;
  }
}

// Without blanks before line breaks and without more than one empty line in a row.
std::string shorten(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::size_t breaks = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find_first_not_of(" \t", at), text.size());
    if (end > at) {
      if (end < text.size() && text[end] != '\n') {
        out += text.substr(at, end - at);
        breaks = 0;
      }
      at = end;
      continue;
    }
    breaks = text[at] == '\n' ? breaks + 1 : 0;
    if (breaks <= 2) out += text[at];
    ++at;
  }
  return out;
}

std::size_t characters(std::string_view utf8) {
  return static_cast<std::size_t>(std::ranges::count_if(
      utf8, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

NativeStep compress(NativeExchange& exchange) {
  const auto* view = exchange.view();
  if (view == nullptr) return NativeStep::python;
  Edits edits;
  for (const ChatText& text : view->texts) {
    if (text.message != view->last_message || text.message < 0 || text.place != Place::content)
      continue;
    if (!may_shorten(text.raw)) continue;
    if (may_hold_surrogates(text.raw)) return NativeStep::python;
    const std::string whole = text.text().decode();
    if (characters(whole) <= kMinCharacters || has_fence(whole)) continue;
    std::string shorter = shorten(whole);
    if (shorter.size() < whole.size()) edits.emplace_back(text.raw, std::move(shorter));
  }
  if (edits.empty()) return NativeStep::done;
  exchange.edit(edits);
  exchange.note("minified", true);
  return NativeStep::done;
}

// ---- the masker

NativeStep mask(NativeExchange& exchange) {
  const auto* view = exchange.view();
  if (view == nullptr) return NativeStep::python;
  std::vector<const ChatText*> suspects;
  std::string room;
  for (const ChatText& text : view->texts) {
    const bool spelled_out = has(text.raw, "\\u");
    const auto seen = spelled_out ? text.text().decode_in(room) : text.raw;
    if (!may_hold_pii(seen)) continue;
    if (spelled_out && may_hold_surrogates(text.raw)) return NativeStep::python;
    suspects.push_back(&text);
  }
  if (suspects.empty()) return NativeStep::done;
  PiiMasker masker(exchange.services().secret, exchange.tenant(), exchange.placeholders);
  Edits edits;
  for (const ChatText* text : suspects) {
    const auto whole = text->text().decode_in(room);
    auto masked = masker.mask(whole);
    if (!masked) {
      exchange.placeholders.clear();
      return NativeStep::python;
    }
    if (*masked != whole) edits.emplace_back(text->raw, *std::move(masked));
  }
  if (edits.empty()) return NativeStep::done;
  exchange.edit(edits);
  exchange.note("pii_masked", true);
  return NativeStep::done;
}

// Puts the request's own values back into its reply: text and tool calls.
NativeStep restore(NativeExchange& exchange, NativeReply& reply) {
  if (exchange.placeholders.empty()) return NativeStep::done;
  const std::string& body = reply.reply().body;
  const auto* view = reply.view();
  if (view == nullptr || has(body, "\\u005b") || has(body, "\\u005B")) return NativeStep::python;
  if (!has(body, "[PII_")) return NativeStep::done;
  Edits edits;
  for (const ChatText& text : view->texts) {
    if (!has(text.raw, "[PII_")) continue;
    if (may_hold_surrogates(text.raw)) return NativeStep::python;
    const std::string whole = text.text().decode();
    auto own = restored(whole, exchange.placeholders, text.place == Place::arguments);
    if (own != whole) edits.emplace_back(text.raw, std::move(own));
  }
  if (!edits.empty()) reply.edit(edits);
  return NativeStep::done;
}

// ---- the cache

NativeStep lookup(NativeExchange& exchange) {
  if (!exchange.request().generates()) return NativeStep::done;  // it keeps completions alone
  const auto& cache = exchange.services().cache;
  if (!cache) return NativeStep::python;
  std::string control;
  for (const auto& [name, value] : exchange.request().headers) {
    if (name == "cache-control") control = lower_case(value);
  }
  if (has(control, "no-cache") || has(control, "no-store")) {
    exchange.note("_cache_bypass", true);
    return NativeStep::done;
  }
  const auto* view = exchange.view();
  if (view == nullptr) return NativeStep::python;
  std::string key = cache_key(*view, exchange.tenant());
  auto found = cache->find(key, exchange.now);
  if (!found) {
    exchange.cache_key = std::move(key);
    return NativeStep::done;
  }
  exchange.note("_cache_status", std::string("HIT"));
  exchange.note("_cache_hit", true);
  RingVerdict& verdict = exchange.verdict;
  verdict.kind = RingVerdict::Kind::answer;
  verdict.status = 200;
  verdict.headers = {{"x-llmproxy-cache", "HIT"}};
  verdict.body = *std::move(found);
  return NativeStep::stop;
}

// Stores a whole, good answer; an error, a block or a cut one is not kept.
NativeStep keep(NativeExchange& exchange, const RingOutcome& outcome, NativeReply* reply) {
  if (exchange.cache_key.empty() || reply == nullptr || reply->reply().body.empty()) {
    return NativeStep::done;
  }
  const auto& cache = exchange.services().cache;
  if (!cache) return NativeStep::python;
  if (outcome.status != 200) return NativeStep::done;
  const auto* view = reply->view();
  if (view == nullptr) return NativeStep::python;
  if (view->complete) cache->put(exchange.cache_key, reply->reply().body, exchange.now);
  return NativeStep::done;
}

// ---- the router

bool offers(const EndpointPool::Endpoint& endpoint, std::string_view model) {
  return std::ranges::find(endpoint.models, model) != endpoint.models.end();
}

bool names(std::string_view model, std::string_view id) {
  return model.size() > id.size() && model.starts_with(id) &&
         (model[id.size()] == ':' || model[id.size()] == '/');
}

NativeStep select_endpoint(NativeExchange& exchange) {
  NativeServices& services = exchange.services();
  const auto pool = services.pool->get();
  const auto* view = exchange.view();
  if (view == nullptr || !view->has_model || pool->empty() || services.priority_mode) {
    return NativeStep::python;
  }
  std::string room;
  const auto model = Text::escaped(view->model).decode_in(room);
  std::size_t exact = 0, any = 0;
  for (const auto& endpoint : *pool) {
    if (names(model, endpoint.id)) return NativeStep::done;  // the client says where to
    if (offers(endpoint, model)) {
      ++exact;
    } else if (endpoint.models.empty()) {
      ++any;
    }
  }
  const std::size_t candidates = exact > 0 ? exact : any;
  if (candidates == 0) return NativeStep::python;
  // The price is the same for all: it does not tell them apart.
  const EndpointPool::Endpoint* chosen = nullptr;
  double best = -1;
  bool learnt = false;
  const auto is_candidate = [&](const auto& endpoint) {
    return exact > 0 ? offers(endpoint, model) : endpoint.models.empty();
  };
  for (const auto& endpoint : *pool) {
    if (!is_candidate(endpoint)) continue;
    if (!endpoint.breaker->closed()) return NativeStep::python;
    const auto known = services.stats->get(endpoint.id);
    learnt = learnt || known;
    const auto row = known.value_or(EndpointStats::Row{});
    const double score = row.success * row.success / std::max(row.latency_ms, 1.0);
    if (score > best) {
      best = score;
      chosen = &endpoint;
    }
  }
  if (!learnt) {
    auto before = services.turn++ % candidates;
    chosen = &*std::ranges::find_if(
        *pool, [&](const auto& endpoint) { return is_candidate(endpoint) && before-- == 0; });
  }
  exchange.note("target_endpoint", chosen->id);
  exchange.note("_routing_strategy", std::string(learnt ? "smart_weighted" : "round_robin"));
  // With one or none the engine's own routing says the same.
  if (exact > 1) {
    exchange.edit({{view->model, chosen->id + ":" + std::string(model)}});
  }
  return NativeStep::done;
}

// What the backend that answered took, and whether it answered well.
NativeStep learn(NativeExchange& exchange, const RingOutcome& outcome, NativeReply*) {
  if (outcome.backend.empty()) return NativeStep::done;
  const bool success = outcome.status < 500 && outcome.status != 429;
  NativeServices& services = exchange.services();
  services.stats->learn(outcome.backend, std::max(outcome.duration, 0.0) * 1000, success);
  services.pool->breaker(outcome.backend)->report(success, exchange.now);
  return NativeStep::done;
}

// ---- the reply ring

bool repeats_word(std::string_view text, int most) {
  std::string_view before;
  int repeats = 0;
  for (;;) {
    const auto end = text.find(' ');
    const auto word = text.substr(0, end);
    repeats = !word.empty() && word == before ? repeats + 1 : 0;
    if (repeats >= most) return true;
    if (end == std::string_view::npos) return false;
    before = word;
    text.remove_prefix(end + 1);
  }
}

// Whether a word may come 16 times in a row: then one of these looks falls on it and the next one
// of it, as 16 words of n bytes and the blanks between them take 16 n + 15. No false "no".
bool may_repeat_word(std::string_view text) {
  constexpr std::size_t kStride = 24;
  static_assert(LoopDetector::kMaxRepeats >= 15);
  const auto end_of_word = [text](std::size_t at) {
    // Words are short: a call for each costs more than a look at each byte.
    while (at < text.size() && text[at] != ' ') ++at;
    return at;
  };
  for (std::size_t look = 0; look < text.size(); look += kStride) {
    const auto begin = end_of_word(look) + 1;
    const auto end = end_of_word(begin);
    if (end >= text.size()) return false;
    const auto word = text.substr(begin, end - begin);
    if (!word.empty() && text.substr(end + 1, end_of_word(end + 1) - end - 1) == word) return true;
  }
  return false;
}

// What loops is cut by Python; that is rare.
NativeStep analyze(NativeExchange&, NativeReply& reply) {
  const auto* view = reply.view();
  if (view == nullptr) return NativeStep::python;
  for (const ChatText& text : view->texts) {
    if (text.place != Place::content || text.raw.size() < 30) continue;
    // Three times ten line breaks take this much.
    std::string room;
    const auto whole = text.text().decode_in(room);
    if ((may_repeat_word(whole) && repeats_word(whole, LoopDetector::kMaxRepeats)) ||
        has(whole, "\n\n\n\n\n\n\n\n\n\n")) {
      return NativeStep::python;
    }
  }
  return NativeStep::done;
}

// The length of the hidden character at `at`; 0: it is none. Controls, and marks that reorder or
// hide text; joiners stay, many scripts need them.
std::size_t hidden_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const unsigned first = byte(0);
  if (first < 0x20) return first == '\t' || first == '\n' || first == '\r' ? 0 : 1;
  if (first == 0x7f) return 1;
  const unsigned second = byte(1), third = byte(2);
  if (first == 0xe2 && second == 0x80) {
    return third == 0x8b || (third >= 0xaa && third <= 0xae) ? 3 : 0;
  }
  if (first == 0xe2 && second == 0x81) {
    return third == 0xa0 || (third >= 0xa6 && third <= 0xa9) ? 3 : 0;
  }
  if (first == 0xef && second == 0xbb && third == 0xbf) return 3;
  if (first == 0xf3 && second == 0xa0 && (third == 0x80 || third == 0x81)) return 4;
  return 0;
}

std::string without_hidden(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    if (const std::size_t hidden = hidden_at(text, at)) {
      at += hidden;
    } else {
      out += text[at++];
    }
  }
  return out;
}

// Whether the raw form of a text says that nothing is hidden in it.
bool hides_nothing(std::string_view raw) {
  constexpr std::string_view kFirstBytes = "\x7f\xe2\xef\xf3";
  const auto lacks = [raw](char byte) { return raw.find(byte) == std::string_view::npos; };
  return std::ranges::all_of(kFirstBytes, lacks) &&
         (lacks('\\') || (!has(raw, "\\u") && !has(raw, "\\b") && !has(raw, "\\f")));
}

NativeStep cleanse(NativeExchange& exchange, NativeReply& reply) {
  if (exchange.services().blocks_domains) return NativeStep::python;
  const auto* view = reply.view();
  if (view == nullptr) return NativeStep::python;
  Edits edits;
  for (const ChatText& text : view->texts) {
    if (text.place != Place::content || hides_nothing(text.raw)) continue;
    const std::string whole = text.text().decode();
    std::string seen = without_hidden(whole);
    if (seen.size() == whole.size()) continue;
    if (may_hold_surrogates(text.raw) || has(seen, "[SEC_ERR:")) return NativeStep::python;
    edits.emplace_back(text.raw, std::move(seen));
  }
  if (!edits.empty()) reply.edit(edits);
  return restore(exchange, reply);
}

// What is cut short is completed by Python; that is rare.
NativeStep repair(NativeExchange& exchange, NativeReply& reply) {
  const auto* view = reply.view();
  if (view == nullptr) return NativeStep::python;
  if (!exchange.wants_format()) return NativeStep::done;
  const auto looks_whole = [](std::string_view raw) {
    // An escape or a blank in front may hide a bracket.
    return raw.empty() || raw.back() == '}' || raw.back() == ']' ||
           (static_cast<unsigned char>(raw.front()) < 0x80 && !has("{[\\ ", raw.substr(0, 1)));
  };
  for (const ChatText& text : view->texts) {
    if (text.place == Place::content && !looks_whole(text.raw)) return NativeStep::python;
  }
  return NativeStep::done;
}

// ---- background

// The ledger has counted it. Where the log shows it, or a plugin behind it reads it, it is Python.
NativeStep record(NativeExchange&, const RingOutcome&, NativeReply*) {
  return NativeStep::done;
}

constexpr std::array kPlugins{
    NativePlugin{"ingress_auth.verify", verify},
    NativePlugin{"context_minifier.compress", compress},
    NativePlugin{"pii_masker.mask", mask},
    NativePlugin{"pii_masker.restore", nullptr, restore},
    NativePlugin{"cache_check.lookup", lookup},
    NativePlugin{"cache_check.keep", nullptr, nullptr, keep},
    NativePlugin{"smart_router.select_endpoint", select_endpoint},
    NativePlugin{"smart_router.learn", nullptr, nullptr, learn},
    NativePlugin{"kill_switch.analyze", nullptr, analyze},
    NativePlugin{"shield_sanitizer.cleanse", nullptr, cleanse},
    NativePlugin{"json_healer.repair", nullptr, repair},
    NativePlugin{"telemetry_ops.record", nullptr, nullptr, record},
};

}  // namespace

const NativePlugin* native_plugin(std::string_view name) {
  const auto found = std::ranges::find(kPlugins, name, &NativePlugin::name);
  return found == kPlugins.end() ? nullptr : &*found;
}

}  // namespace llm_proxy
