#pragma once

#include <string>
#include <vector>

#include "formats/format.h"
#include "hosting/backend_host.h"
#include "routing/route_table.h"

namespace llm_proxy {

// Every model name a client may use: what the backends are known to have or, `hosted`, say they
// have; aliases; and "instance:model" where the same name exists twice, or only the backend's own
// name leads to it. In the order of the configuration; no name twice.
std::vector<ListedModel> list_models(const RouteTable& routes,
                                     const std::vector<HostedModels>& hosted);

}  // namespace llm_proxy
