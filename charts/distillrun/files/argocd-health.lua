-- Health of a DistillRun for Argo CD, from its conditions alone.
-- It goes into the ConfigMap argocd-cm as resource.customizations.health.distillrun.dev_DistillRun (docs/gitops.md).
local health = {status = "Progressing", message = "The operator has not seen this run yet"}
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end
if status.observedGeneration ~= nil and obj.metadata.generation ~= nil
    and status.observedGeneration ~= obj.metadata.generation then
  health.message = "The operator has not acted on the latest change yet"
  return health
end
local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local function is(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end
local judged = {{"Stalled", "Degraded"}, {"Suspended", "Suspended"}, {"Ready", "Healthy"}}
health.message = status.message or "The run goes on"
for _, pair in ipairs(judged) do
  if is(pair[1]) then
    health.status = pair[2]
    local words = conditions[pair[1]].message
    if words ~= nil and words ~= "" then
      health.message = words
    end
    break
  end
end
return health
