#include "routing/route_table.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "base/nearest.h"

namespace llm_proxy {
namespace {

std::string_view group_name(std::string_view instance) {
  return instance.substr(0, instance.find('.'));
}

// What stands before the first colon, if that comes before the first slash.
std::string_view prefix_of(std::string_view target) {
  const auto colon = target.find_first_of(":/");
  return colon != target.npos && target[colon] == ':' ? target.substr(0, colon)
                                                      : std::string_view();
}

// One provider, even where it is configured once for each of its formats.
bool same_server(const Backend& a, const Backend& b) {
  return &a == &b || (!a.base_url.empty() && a.base_url == b.base_url);
}

bool same_params(const Candidate& a, const Candidate& b) {
  return (a.params == nullptr || b.params == nullptr) ? a.params == b.params
                                                      : describe(*a.params) == describe(*b.params);
}

void append_new(std::vector<Candidate> from, Route& route) {
  for (auto& leg : from) {
    const bool known = std::any_of(
        route.candidates.begin(), route.candidates.end(), [&](const Candidate& candidate) {
          return candidate.backend == leg.backend && candidate.model == leg.model &&
                 same_params(candidate, leg);
        });
    if (!known) route.candidates.push_back(std::move(leg));
  }
}

using Legs = std::vector<const SelectorLeg*>;

// The legs in the order in which they are drawn, each among those that are left.
Legs drawn(Legs legs, std::uint32_t random, const RouteTable::Hints& hints) {
  Legs out;
  while (!legs.empty()) {
    auto pick = legs.end();
    if (out.empty()) {
      pick = std::find_if(legs.begin(), legs.end(), [](const auto* leg) { return leg->first; });
      if (pick != legs.end() && !(hints.first_request && hints.first_request())) pick = legs.end();
    }
    if (pick == legs.end()) {
      std::uint64_t total = 0;
      for (const auto* leg : legs) total += leg->weight;
      random = random * 1664525u + 1013904223u;
      auto at = (random * total) >> 32;
      for (pick = legs.begin(); at >= (*pick)->weight; ++pick) at -= (*pick)->weight;
    }
    out.push_back(*pick);
    legs.erase(pick);
  }
  return out;
}

}  // namespace

bool Route::has_context_limits() const {
  return std::any_of(candidates.begin(), candidates.end(),
                     [](const Candidate& candidate) { return candidate.max_context > 0; });
}

Result<void> Route::leave_out_small_contexts(std::int64_t tokens) {
  const auto fits = [tokens](const Candidate& candidate) {
    return candidate.max_context == 0 ||
           static_cast<std::uint64_t>(tokens) <= candidate.max_context;
  };
  std::vector<Candidate> kept;
  std::vector<std::size_t> moved{0};  // where a candidate of the old index, or one behind it, is
  for (auto& candidate : candidates) {
    if (fits(candidate)) kept.push_back(std::move(candidate));
    moved.push_back(kept.size());
  }
  candidates = std::move(kept);
  for (auto& lane : race) lane = {moved[lane.begin], moved[lane.end], lane.delay};
  std::erase_if(race, [](const Lane& lane) { return lane.begin == lane.end; });
  if (!candidates.empty()) return {};
  Error out{ErrorKind::malformed_request,
            "the prompt has about " + std::to_string(tokens) +
                " tokens, more than the max_context of any leg of this model allows"};
  out.code = "context_length_exceeded";
  return out;
}

Result<RouteTable> RouteTable::build(const std::vector<Backend>& backends, Settings settings) {
  RouteTable table;
  table.backends_ = &backends;
  table.settings_ = std::move(settings);
  for (const auto& backend : backends) table.by_name_.emplace(backend.name, &backend);
  for (const auto& backend : backends) {
    if (table.covered(backend)) continue;
    // One that serves some models of a server only is found by its model.
    if (backend.only_models.empty())
      table.groups_[std::string(group_name(backend.name))].instances.push_back(&backend);
    for (const auto& model : backend.models) table.by_model_[model].push_back(&backend);
  }
  table.several_servers_ = std::any_of(
      backends.begin(), backends.end(),
      [&backends](const Backend& backend) { return !same_server(backend, backends.front()); });
  table.turns_ = std::shared_ptr<std::atomic<std::uint32_t>[]>(
      new std::atomic<std::uint32_t>[table.groups_.size() + 1]());
  std::size_t turn = 0;
  for (auto& [name, group] : table.groups_) group.turn = turn++;

  if (!table.settings_.default_backend.empty()) {
    table.default_ = table.named(table.settings_.default_backend);
    if (table.default_ == nullptr) {
      return Error{ErrorKind::malformed_request, "default_backend: no backend is called '" +
                                                     table.settings_.default_backend +
                                                     "'; there are: " + table.names()};
    }
  } else if (!backends.empty()) {
    table.default_ = &backends.front();
  }
  if (auto added = table.add_aliases(); !added) return std::move(added).error();
  for (const auto& [model, chain] : table.settings_.failover_routes) {
    const auto where = "failover_routes." + model + ": ";
    if (chain.elements.empty()) {
      return Error{ErrorKind::malformed_request, where + "elements must name at least one model"};
    }
    Route route;
    if (auto legs = table.append_legs(chain, {}, route); !legs) {
      return Error{ErrorKind::malformed_request, where + legs.error().message};
    }
  }
  if (const auto& route = table.settings_.static_route; !route.empty()) {
    if (auto legs = table.resolve_composite(route, {}); !legs) {
      return Error{ErrorKind::malformed_request, "static_route: " + legs.error().message};
    }
  }
  // The looks at routes above took turns.
  for (std::size_t i = 0; i <= table.groups_.size(); ++i) table.turns_[i] = 0;
  return table;
}

Result<void> RouteTable::add_aliases() {
  for (const auto& [pattern, replacement] : settings_.aliases) {
    const auto wrong = [&name = pattern](const Error& error) {
      return Error{ErrorKind::malformed_request, "model_aliases: '" + name + "': " + error.message};
    };
    std::string_view plain = pattern;
    if (plain.starts_with('^')) plain.remove_prefix(1);
    if (plain.ends_with('$')) plain.remove_suffix(1);
    auto& alias = aliases_.emplace_back();
    alias.replacement = replacement;
    if (plain.find_first_of("*+?()[]{}|^$\\") == plain.npos) {
      alias.name = plain;
      if (auto target = parse_selector(replacement); !target) return wrong(target.error());
      continue;
    }
    alias.name = pattern;
    auto built = Pattern::build(pattern);
    if (!built) return wrong(built.error());
    if (auto good = check_replacement(*built, replacement); !good) return wrong(good.error());
    alias.pattern = *std::move(built);
  }
  return {};
}

// Whether the plain instance of the same backend has all its keys, for the same address.
bool RouteTable::covered(const Backend& backend) const {
  const auto plain = by_name_.find(group_name(backend.name));
  if (plain == by_name_.end() || plain->second == &backend || backend.keys.empty()) return false;
  const auto& keys = plain->second->keys;
  return plain->second->base_url == backend.base_url && plain->second->format == backend.format &&
         std::all_of(backend.keys.begin(), backend.keys.end(), [&keys](const auto& key) {
           return std::find(keys.begin(), keys.end(), key) != keys.end();
         });
}

const Backend* RouteTable::named(std::string_view instance) const {
  if (const auto found = by_name_.find(instance); found != by_name_.end()) return found->second;
  const auto group = groups_.find(instance);
  return group == groups_.end() ? nullptr : group->second.instances.front();
}

const Backend* RouteTable::prefix(std::string_view target) const {
  const auto name = prefix_of(target);
  return name.empty() ? nullptr : named(name);
}

bool RouteTable::names_backend(std::string_view selector) const {
  if (is_plain_selector(selector)) return prefix(selector) != nullptr;
  const auto parsed = parsed_->parse(selector);
  return !parsed || std::any_of((*parsed)->legs.begin(), (*parsed)->legs.end(),
                                [this](const auto& leg) { return prefix(leg.target) != nullptr; });
}

std::string RouteTable::names() const {
  std::string out;
  for (const auto& [name, backend] : by_name_) {
    if (!out.empty()) out += ", ";
    out += name;
  }
  return out.empty() ? "none" : out;
}

Error RouteTable::no_backend(std::string_view name) const {
  std::vector<std::string_view> there;
  for (const auto& [known, backend] : by_name_) there.push_back(known);
  const auto meant = did_you_mean(name, there);
  return {ErrorKind::malformed_request,
          "no backend is called '" + std::string(name.substr(0, 80)) + "'" +
              (meant.empty() ? "; there are: " : meant + " There are: ") + names()};
}

std::vector<std::string> RouteTable::model_names() const {
  std::set<std::string> out;
  const auto add = [&](std::string name) {
    if (permitted(name)) out.insert(std::move(name));
  };
  for (const auto& backend : *backends_) {
    for (const auto& model : backend.models) {
      add(out.contains(model) ? backend.name + ":" + model : model);
    }
  }
  for (const auto& backend : *backends_) {
    if (!settings_.index || !backend.models.empty()) continue;
    for (const auto& model : settings_.index->models_of(backend.name)) {
      add(&backend == default_ ? model : backend.name + ":" + model);
    }
  }
  for (auto& alias : alias_names()) add(std::move(alias));
  return {out.begin(), out.end()};
}

std::vector<std::string> RouteTable::alias_names() const {
  std::vector<std::string> out;
  for (const auto& alias : aliases_) {
    if (!alias.pattern) out.push_back(alias.name);
  }
  return out;
}

std::optional<std::string> RouteTable::alias_of(std::string_view model) const {
  for (const auto& alias : aliases_) {
    if (!alias.pattern) {
      if (alias.name == model) return alias.replacement;
    } else if (const auto groups = alias.pattern->match(model)) {
      return expand_replacement(*groups, alias.replacement);
    }
  }
  return std::nullopt;
}

// "alias:name" must be one.
Result<std::string> RouteTable::named_alias(std::string_view name) const {
  if (auto target = alias_of(name)) return *std::move(target);
  std::string there;
  for (const auto& known : alias_names()) there += (there.empty() ? "" : ", ") + known;
  Error out{ErrorKind::unknown_model, "model, character 7: no alias is called '" +
                                          std::string(name.substr(0, 60)) +
                                          "'; there are: " + (there.empty() ? "none" : there)};
  out.param = "model";
  return out;
}

Result<void> RouteTable::permitted(std::string_view model) const {
  const auto& policy = settings_.policy;
  if (!policy.forbids_any() || model.empty() || model.starts_with("alias:")) return {};
  const auto allows = [&](std::string_view target) -> Result<void> {
    if (prefix(target) != nullptr) return policy.allows(prefix_of(target));
    const bool ours = !settings_.static_route.empty() || alias_of(target) ||
                      settings_.failover_routes.contains(target);
    return ours ? Result<void>() : policy.allows({});
  };
  if (alias_of(model)) return {};
  if (is_plain_selector(model)) return allows(model);
  const auto parsed = parsed_->parse(model);
  if (!parsed) return {};  // it is heard of elsewhere
  for (const auto& leg : (*parsed)->legs) {
    if (auto allowed = allows(leg.target); !allowed) return allowed;
  }
  return {};
}

Result<Route> RouteTable::resolve(std::string_view model, const Hints& hints) const {
  if (auto allowed = permitted(model); !allowed) return std::move(allowed).error();
  std::string renamed;
  if (!aliases_.empty()) {
    if (auto target = alias_of(model)) {
      renamed = *std::move(target);
      model = renamed;
    }
  }
  if (model.empty()) model = settings_.default_model;
  if (model.starts_with("alias:") && named("alias") == nullptr) {
    auto target = named_alias(model.substr(6));
    if (!target) return std::move(target).error();
    renamed = *std::move(target);
    model = renamed;
  }
  if (model.starts_with("auto:") && named("auto") == nullptr) {
    Error out{
        ErrorKind::malformed_request,
        "model, character 1: 'auto:' is reserved; name a model or one of the backends: " + names()};
    out.code = "UNSUPPORTED_CONSTRUCT";
    out.param = "model";
    return out;
  }
  if (!settings_.static_route.empty() && !names_backend(model)) {
    return resolve_composite(settings_.static_route, hints);
  }
  if (is_plain_selector(model)) return resolve_plain(model, {});
  return resolve_composite(model, hints);
}

Result<Route> RouteTable::resolve_plain(std::string_view model, Sticky sticky) const {
  const auto& chains = settings_.failover_routes;
  if (chains.empty()) return resolve_target(model, sticky);
  Route route;
  if (const auto own = chains.find(model); own != chains.end()) {
    if (auto legs = append_legs(own->second, sticky, route); !legs) return std::move(legs).error();
    return route;
  }
  auto legs = resolve_target(model, sticky);
  if (!legs) return legs;
  route = *std::move(legs);
  for (const std::string_view name : {"default", "*"}) {
    const auto chain = chains.find(name);
    if (chain == chains.end()) continue;
    if (auto more = append_legs(chain->second, sticky, route); !more)
      return std::move(more).error();
    break;
  }
  return route;
}

Result<Route> RouteTable::resolve_composite(std::string_view text, const Hints& hints) const {
  auto parsed = parsed_->parse(text);
  if (!parsed) return std::move(parsed).error();
  const auto& selector = *parsed;
  Route route;
  auto random = hints.random;
  if (selector->affinity != Affinity::none && hints.identity) {
    route.sticky = hints.identity(selector->affinity);
    random = static_cast<std::uint32_t>(*route.sticky);
  }
  Legs legs;
  std::chrono::milliseconds longest{0};
  for (const auto& leg : selector->legs) {
    legs.push_back(&leg);
    longest = std::max(longest, leg.handicap);
  }
  if (selector->how == Composition::weighted) legs = drawn(std::move(legs), random, hints);
  for (const auto* which : legs) {
    const auto& leg = *which;
    auto one = selector->how == Composition::single && leg.params.empty() && leg.max_context == 0 &&
                       leg.ttft_timeout.count() == 0
                   ? resolve_plain(leg.target, route.sticky)
                   : resolve_leg(selector, leg, route.sticky);
    if (!one) return one;
    if (one->first_token.count() > 0) route.first_token = one->first_token;
    const auto begin = route.candidates.size();
    if (selector->how == Composition::race) {
      // Every lane keeps its own legs, even where they are another's too.
      for (auto& candidate : one->candidates) route.candidates.push_back(std::move(candidate));
      route.race.push_back({begin, route.candidates.size(), longest - leg.handicap});
    } else {
      append_new(std::move(one->candidates), route);
    }
  }
  route.ignored = selector->ignored;
  return route;
}

// A leg of a composite: what its target means, with the leg's own wishes.
Result<Route> RouteTable::resolve_leg(const std::shared_ptr<const Selector>& selector,
                                      const SelectorLeg& leg, Sticky sticky) const {
  auto out = [&]() -> Result<Route> {
    if (const auto target = alias_of(leg.target); target && is_plain_selector(*target)) {
      return resolve_target(*target, sticky);
    }
    const auto chain = settings_.failover_routes.find(leg.target);
    if (chain == settings_.failover_routes.end()) return resolve_target(leg.target, sticky);
    Route route;
    if (auto legs = append_legs(chain->second, sticky, route); !legs)
      return std::move(legs).error();
    return route;
  }();
  if (!out) return out;
  const auto params =
      leg.params.empty() ? nullptr : std::shared_ptr<const CallParams>(selector, &leg.params);
  for (auto& candidate : out->candidates) {
    candidate.params = params;
    candidate.first_token = leg.ttft_timeout;
    candidate.max_context = leg.max_context;
  }
  return out;
}

Result<void> RouteTable::append_legs(const FailoverRoute& chain, Sticky sticky,
                                     Route& route) const {
  for (const auto& element : chain.elements) {
    auto legs =
        is_plain_selector(element) ? resolve_target(element, sticky) : [&]() -> Result<Route> {
      auto parsed = parsed_->parse(element);
      if (!parsed) return std::move(parsed).error();
      const auto& selector = *parsed;
      if (selector->how != Composition::single) {
        return Error{ErrorKind::malformed_request,
                     "'" + element + "': an element is one leg, without |, ^ and !"};
      }
      const auto& leg = selector->legs.front();
      auto one = resolve_target(leg.target, sticky);
      if (!one) return one;
      for (auto& candidate : one->candidates) {
        if (!leg.params.empty()) {
          candidate.params = std::shared_ptr<const CallParams>(selector, &leg.params);
        }
        candidate.first_token = leg.ttft_timeout;
        candidate.max_context = leg.max_context;
      }
      return one;
    }();
    if (!legs) return std::move(legs).error();
    append_new(std::move(legs->candidates), route);
  }
  if (chain.first_token.count() > 0) route.first_token = chain.first_token;
  return {};
}

// The instances of a backend, beginning with the one whose turn it is.
void RouteTable::append_group(const Backend& backend, std::string_view model, Sticky sticky,
                              Route& route) const {
  const auto group = groups_.find(group_name(backend.name));
  // Where an instance lists this model, those that list only others are not asked for it.
  const auto lists = [model](const Backend* instance) {
    const auto& models = instance->models;
    return std::find(models.begin(), models.end(), model) != models.end();
  };
  const auto& every = group->second.instances;
  std::vector<const Backend*> holding;
  if (every.size() > 1 && std::any_of(every.begin(), every.end(), lists)) {
    std::copy_if(every.begin(), every.end(), std::back_inserter(holding),
                 [&](const auto* instance) { return instance->models.empty() || lists(instance); });
  }
  const auto& all = holding.empty() ? every : holding;
  const auto first =
      all.size() < 2 ? 0
      : sticky       ? *sticky % all.size()
               : turns_[group->second.turn].fetch_add(1, std::memory_order_relaxed) % all.size();
  for (std::size_t i = 0; i < all.size(); ++i) {
    route.candidates.push_back({all[(first + i) % all.size()], std::string(model)});
  }
}

Result<Route> RouteTable::resolve_target(std::string_view target, Sticky sticky) const {
  Route route;
  // "backend:model": a prefix is a backend only if one of that name exists, and only before the
  // first slash.
  if (const auto name = prefix_of(target); !name.empty()) {
    const auto model = target.substr(name.size() + 1);
    if (const Backend* backend = named(name)) {
      if (name.find('.') == name.npos) {
        append_group(*backend, model, sticky, route);
      } else {
        route.candidates.push_back({backend, std::string(model)});
      }
      return route;
    }
    if (name.find('.') != name.npos && groups_.contains(group_name(name))) {
      Error error{ErrorKind::unknown_model,
                  "model, character 1: '" + std::string(name) + "' is no instance of '" +
                      std::string(group_name(name)) + "'; there are: " + names()};
      error.param = "model";
      return error;
    }
  }
  for (const Backend* backend : holders(target, sticky)) {
    route.candidates.push_back({backend, std::string(target)});
  }
  if (!route.candidates.empty()) return route;
  if (const Backend* vendor = of_vendor(target)) {
    append_group(*vendor, target, sticky, route);
    return route;
  }
  if (default_ == nullptr) {
    return Error{ErrorKind::unknown_model,
                 "no backend is configured: set OPENAI_API_KEY, ANTHROPIC_API_KEY or "
                 "another provider's key, or start with --default-backend NAME"};
  }
  const std::string_view model =
      settings_.default_model.empty() ? target : std::string_view(settings_.default_model);
  if (settings_.default_backend.find('.') == std::string::npos) {
    append_group(*default_, model, sticky, route);
  } else {
    route.candidates.push_back({default_, std::string(model)});
  }
  return route;
}

// The backends that have a model, as the configuration or they themselves say; in the order in
// which to ask them.
std::vector<const Backend*> RouteTable::holders(std::string_view model, Sticky sticky) const {
  std::vector<const Backend*> out;
  if (const auto known = by_model_.find(model); known != by_model_.end()) out = known->second;
  if (settings_.index && several_servers_) {
    const auto named = settings_.index->who_has(std::string(model));
    // In the order of the configuration; where that lists models, it counts.
    for (const auto& backend : *backends_) {
      const bool has = backend.models.empty() && backend.only_models.empty() && !covered(backend) &&
                       std::find(named.begin(), named.end(), backend.name) != named.end();
      const auto serves = [&](const Backend* other) { return same_server(*other, backend); };
      if (!has || std::any_of(out.begin(), out.end(), serves)) continue;
      out.push_back(default_ != nullptr && serves(default_) ? default_ : &backend);
    }
  }
  if (out.size() < 2) return out;
  std::stable_sort(out.begin(), out.end());  // the backends' own order
  switch (settings_.policy.preference_for(model, out)) {
    case Preference::default_first:
      std::stable_partition(out.begin(), out.end(),
                            [this](const Backend* backend) { return backend == default_; });
      break;
    case Preference::round_robin: {
      const auto turn =
          sticky ? *sticky : turns_[groups_.size()].fetch_add(1, std::memory_order_relaxed);
      std::rotate(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(turn % out.size()),
                  out.end());
      break;
    }
    case Preference::cost:
      std::stable_sort(out.begin(), out.end(), [](const Backend* a, const Backend* b) {
        return a->routing_cost < b->routing_cost;
      });
      break;
    case Preference::priority:
      std::stable_sort(out.begin(), out.end(), [](const Backend* a, const Backend* b) {
        return a->routing_priority > b->routing_priority;
      });
      break;
  }
  return out;
}

// "anthropic/claude-x" where Anthropic itself is configured, and the default backend is a vendor of
// its own: who sells other vendors' models is asked by their full names.
const Backend* RouteTable::of_vendor(std::string_view model) const {
  const auto serves = [model](const Backend& backend) {
    return std::any_of(backend.vendor_prefixes.begin(), backend.vendor_prefixes.end(),
                       [model](const auto& prefix) { return model.starts_with(prefix); });
  };
  if (default_ == nullptr || default_->vendor_prefixes.empty() || serves(*default_)) return nullptr;
  const auto found = std::find_if(backends_->begin(), backends_->end(), serves);
  return found == backends_->end() ? nullptr : &*found;
}

bool RouteTable::needs_index(std::string_view model) const {
  if (!settings_.index || !several_servers_) return false;
  std::string renamed;
  if (auto target = alias_of(model)) model = renamed = *std::move(target);
  const auto unknown = [this](std::string_view target) {
    return !target.empty() && prefix(target) == nullptr && !by_model_.contains(target) &&
           !settings_.failover_routes.contains(target);
  };
  if (!settings_.static_route.empty() && !names_backend(model)) return false;
  if (is_plain_selector(model)) return unknown(model);
  const auto parsed = parsed_->parse(model);
  return parsed && std::any_of((*parsed)->legs.begin(), (*parsed)->legs.end(),
                               [&](const auto& leg) { return unknown(leg.target); });
}

bool RouteTable::has(const Backend& backend, std::string_view model) const {
  const auto all = holders(model, 0);
  return std::find(all.begin(), all.end(), &backend) != all.end();
}

}  // namespace llm_proxy
