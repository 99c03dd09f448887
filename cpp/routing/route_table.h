#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "routing/backend.h"
#include "routing/call_params.h"
#include "routing/model_index.h"
#include "routing/pattern.h"
#include "routing/route_policy.h"
#include "routing/selector.h"
#include "routing/selector_cache.h"

namespace llm_proxy {

// One leg of a route: this backend, asked for this model.
struct Candidate {
  const Backend* backend = nullptr;  // lives as long as the snapshot
  std::string model;
  std::shared_ptr<const CallParams> params;  // set over the request's own; null: none
  std::chrono::milliseconds first_token{0};  // of a stream; 0: the route's
  std::uint64_t max_context = 0;             // tokens of the prompt; 0: no limit
};

// Who may answer a request, in the order to try.
struct Route {
  // Candidates that are tried one after the other, beside other lanes.
  struct Lane {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::chrono::milliseconds delay{0};  // it starts so much later than the first
  };

  std::vector<Candidate> candidates;
  std::vector<Lane> race;                    // of a race; else empty
  std::chrono::milliseconds first_token{0};  // of a stream, until its first output; 0: the general
  std::optional<std::uint64_t> sticky;       // of {affinity=…}: as KeyPool's
  std::vector<std::string> ignored;          // parameters of the selector that nobody knows

  bool has_context_limits() const;
  // Leaves out the legs that take no prompt of so many tokens. malformed_request
  // (context_length_exceeded) when none is left.
  Result<void> leave_out_small_contexts(std::int64_t tokens);
};

// A named chain of legs: "backend:model" or whatever else a client could name.
struct FailoverRoute {
  std::vector<std::string> elements;
  std::chrono::milliseconds first_token{0};
};

// A model name that stands for another: a plain name, or a regular expression whose groups the
// replacement may use.
struct ModelAlias {
  std::string pattern;
  std::string replacement;
};

// Decides from the model a client names which backends may answer. Immutable part of a snapshot
// but for the turns of its instances; read by all workers.
//
// An instance is a backend's name, or that name with a suffix ("openai.2", "openai.work"). Who
// names one with its suffix gets just it; who names the backend gets all its instances in turn. An
// instance that has nothing but keys the plain one has too takes no turn of its own: the plain
// one's pool gives its keys their turns already.
class RouteTable {
 public:
  struct Settings {
    std::string default_backend;      // instance name; empty: the first one
    std::string default_model;        // empty: the client's
    std::vector<ModelAlias> aliases;  // the first that matches counts
    // By model: the whole chain for it. "default" or "*": appended to every other model's own.
    std::map<std::string, FailoverRoute, std::less<>> failover_routes;
    std::string static_route;  // whoever names no backend gets this selector; empty: off
    RoutePolicy policy;
    std::shared_ptr<const ModelIndex> index;  // what backends say they have; may be null
  };
  // What of a request is not in its selector. The functions are asked where a selector wants to
  // know, and may be empty.
  struct Hints {
    std::uint32_t random = 0;                         // weights are drawn with it
    std::function<bool()> first_request;              // of its session
    std::function<std::uint64_t(Affinity)> identity;  // which session, which client
  };

  // `backends` outlives the table. An Error names what is valid where default_backend or a leg of a
  // failover route names no backend.
  static Result<RouteTable> build(const std::vector<Backend>& backends, Settings settings);

  // `model` as the client wrote it: a selector, an alias, or nothing (then the default model).
  // malformed_request and unknown_model name the place and what would have been valid; forbidden
  // what the policy says.
  Result<Route> resolve(std::string_view model, const Hints& hints) const;
  Result<Route> resolve(std::string_view model) const { return resolve(model, Hints()); }

  // The instance of that name, or one of the backend of that name.
  const Backend* named(std::string_view instance) const;
  // The backend a target names before its model; null if it names none.
  const Backend* prefix(std::string_view target) const;
  // Whether the policy lets a client name it so; forbidden if not.
  Result<void> permitted(std::string_view model) const;
  // Whether it takes the index to say who serves `model`: a leg names no backend, and no
  // configuration lists what it names.
  bool needs_index(std::string_view model) const;
  // Whether a backend says, or the configuration for it, that it has this model.
  bool has(const Backend& backend, std::string_view model) const;
  // Whether a selector says by which backend a leg of it is served.
  bool names_backend(std::string_view selector) const;
  const Backend* default_backend() const { return default_; }
  const std::vector<Backend>& backends() const { return *backends_; }
  const std::string& static_route() const { return settings_.static_route; }
  // Those that are plain names.
  std::vector<std::string> alias_names() const;
  // "anthropic, openai, openai.2"
  std::string names() const;
  // "no backend is called 'opnai': did you mean 'openai'? There are: anthropic, openai"
  Error no_backend(std::string_view name) const;
  // What clients may name, as far as it is known without asking a provider: models that the
  // configuration lists, models that backends have said they have, and aliases. Sorted; a model
  // that only its backend's name leads to has that name before it.
  std::vector<std::string> model_names() const;

 private:
  struct Alias {
    std::string name;
    std::optional<Pattern> pattern;  // none: the name as it is
    std::string replacement;
  };
  struct Group {
    std::vector<const Backend*> instances;
    std::size_t turn = 0;  // index into turns_
  };

  Result<void> add_aliases();
  bool covered(const Backend& backend) const;
  std::optional<std::string> alias_of(std::string_view model) const;
  Result<std::string> named_alias(std::string_view name) const;
  // A number that stands for one of several: the same one every time, instead of each in turn.
  using Sticky = std::optional<std::uint64_t>;

  Result<Route> resolve_plain(std::string_view model, Sticky sticky) const;
  Result<Route> resolve_composite(std::string_view text, const Hints& hints) const;
  Result<Route> resolve_target(std::string_view target, Sticky sticky) const;
  Result<Route> resolve_leg(const std::shared_ptr<const Selector>& selector, const SelectorLeg& leg,
                            Sticky sticky) const;
  void append_group(const Backend& backend, std::string_view model, Sticky sticky,
                    Route& route) const;
  Result<void> append_legs(const FailoverRoute& chain, Sticky sticky, Route& route) const;
  std::vector<const Backend*> holders(std::string_view model, Sticky sticky) const;
  const Backend* of_vendor(std::string_view model) const;

  const std::vector<Backend>* backends_ = nullptr;
  const Backend* default_ = nullptr;
  bool several_servers_ = false;
  Settings settings_;
  std::vector<Alias> aliases_;
  std::map<std::string, const Backend*, std::less<>> by_name_;
  std::map<std::string, Group, std::less<>> groups_;  // by backend
  // One a group, and the last for models that several groups have.
  std::shared_ptr<std::atomic<std::uint32_t>[]> turns_;
  std::shared_ptr<SelectorCache> parsed_ = std::make_shared<SelectorCache>();
  std::map<std::string, std::vector<const Backend*>, std::less<>> by_model_;
};

}  // namespace llm_proxy
