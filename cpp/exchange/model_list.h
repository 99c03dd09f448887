#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hosting/backend_host.h"
#include "model/wire_format.h"
#include "routing/route_table.h"

namespace llm_proxy {

struct ListedModel {
  std::string id;
  std::string owner;  // the backend instance
};

// Every model name a client may use: what the backends are known to have or, `hosted`, say they
// have; aliases; and "instance:model" where the same name exists twice, or only the backend's own
// name leads to it. In the order of the configuration; no name twice.
std::vector<ListedModel> list_models(const RouteTable& routes,
                                     const std::vector<HostedModels>& hosted);

// The list, or one entry of it, in the shape of whoever asks. `now` in Unix seconds stands for the
// unknown birthdays.
std::string encode_model_list(WireFormat format, const std::vector<ListedModel>& models,
                              std::int64_t now);
std::string encode_model(WireFormat format, const ListedModel& model, std::int64_t now);

}  // namespace llm_proxy
