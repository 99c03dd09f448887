#pragma once

#include "python/py_ref.h"

#include <memory>

#include "hosting/admin_host.h"
#include "python/py_lane.h"

namespace llm_proxy {

// The admin API of a process, as exchanges see it.
//
// Made on the lane; used from every worker until the server has stopped.
class PyAdminHost final : public AdminHost {
 public:
  // `serve` is the bound method of llm_proxy.admin.bridge.AdminBridge.
  PyAdminHost(std::shared_ptr<LaneInbox> inbox, PyRef serve);

  std::shared_ptr<void> call(AdminRequest request, WorkerPost& worker, Done done) override;

 private:
  const std::shared_ptr<LaneInbox> inbox_;
  const std::shared_ptr<const PyRef> serve_;
};

}  // namespace llm_proxy
