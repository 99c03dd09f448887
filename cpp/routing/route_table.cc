#include "routing/route_table.h"

#include <algorithm>

namespace llm_proxy {

Result<RouteTable> RouteTable::build(const std::vector<Backend>& backends, Settings settings) {
  RouteTable table;
  table.backends_ = &backends;
  table.settings_ = std::move(settings);
  for (const auto& backend : backends) {
    table.by_name_.emplace(backend.name, &backend);
    for (const auto& model : backend.models) table.by_model_[model].push_back(&backend);
  }
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
  for (const auto& [model, chain] : table.settings_.failover_routes) {
    const auto where = "failover_routes." + model + ": ";
    if (chain.elements.empty()) {
      return Error{ErrorKind::malformed_request, where + "elements must name at least one model"};
    }
    Route route;
    if (auto legs = table.append_legs(chain, route); !legs) {
      return Error{ErrorKind::malformed_request, where + legs.error().message};
    }
  }
  return table;
}

const Backend* RouteTable::named(std::string_view instance) const {
  const auto found = by_name_.find(instance);
  return found == by_name_.end() ? nullptr : found->second;
}

std::string RouteTable::names() const {
  std::string out;
  for (const auto& [name, backend] : by_name_) {
    if (!out.empty()) out += ", ";
    out += name;
  }
  return out.empty() ? "none" : out;
}

Result<void> RouteTable::append_legs(const FailoverRoute& chain, Route& route) const {
  for (const auto& element : chain.elements) {
    auto legs = resolve_one(element);
    if (!legs) return std::move(legs).error();
    for (auto& leg : legs->candidates) {
      const bool known = std::any_of(
          route.candidates.begin(), route.candidates.end(), [&](const Candidate& candidate) {
            return candidate.backend == leg.backend && candidate.model == leg.model;
          });
      if (!known) route.candidates.push_back(std::move(leg));
    }
  }
  if (chain.first_token.count() > 0) route.first_token = chain.first_token;
  return {};
}

Result<Route> RouteTable::resolve(std::string_view model) const {
  if (const auto alias = settings_.aliases.find(std::string(model));
      alias != settings_.aliases.end()) {
    model = alias->second;
  }
  if (model.empty()) model = settings_.default_model;
  const auto& chains = settings_.failover_routes;
  if (chains.empty()) return resolve_one(model);
  Route route;
  if (const auto own = chains.find(std::string(model)); own != chains.end()) {
    if (auto legs = append_legs(own->second, route); !legs) return std::move(legs).error();
    return route;
  }
  auto legs = resolve_one(model);
  if (!legs) return legs;
  route = *std::move(legs);
  for (const auto* name : {"default", "*"}) {
    const auto chain = chains.find(name);
    if (chain == chains.end()) continue;
    if (auto more = append_legs(chain->second, route); !more) return std::move(more).error();
    break;
  }
  return route;
}

Result<Route> RouteTable::resolve_one(std::string_view model) const {
  Route route;
  // "backend:model": a prefix is a backend only if one of that name exists, and only before the
  // first slash.
  const auto colon = model.find(':');
  if (colon != std::string_view::npos && colon < model.find('/')) {
    if (const Backend* backend = named(model.substr(0, colon))) {
      route.candidates.push_back({backend, std::string(model.substr(colon + 1))});
      return route;
    }
  }
  if (const auto known = by_model_.find(model); known != by_model_.end()) {
    // The default backend first where it knows the model, then the others in the order of the
    // configuration.
    for (const Backend* backend : known->second)
      route.candidates.push_back({backend, std::string(model)});
    std::stable_partition(
        route.candidates.begin(), route.candidates.end(),
        [this](const Candidate& candidate) { return candidate.backend == default_; });
    return route;
  }
  if (default_ == nullptr) {
    return Error{ErrorKind::unknown_model,
                 "no backend is configured: set OPENAI_API_KEY, ANTHROPIC_API_KEY or "
                 "another provider's key, or start with --default-backend NAME"};
  }
  route.candidates.push_back(
      {default_, settings_.default_model.empty() ? std::string(model) : settings_.default_model});
  return route;
}

}  // namespace llm_proxy
