"""The scenarios, one module a question; `ALL` has them by name, in the order in which they are shown."""

from collections.abc import Mapping

from bench.harness.scenario import Scenario
from bench.scenarios import (
    big_file_random,
    big_file_sequential,
    find,
    huge_directory,
    json_tool,
    module_avail,
    mount,
    new_revision,
    package_import,
    publish,
    small_opens,
    stat_storm,
    tar,
    ten_clients,
)

ALL: Mapping[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        mount,
        json_tool,
        module_avail,
        package_import,
        stat_storm,
        find,
        tar,
        small_opens,
        big_file_sequential,
        big_file_random,
        huge_directory,
        ten_clients,
        new_revision,
        publish,
    )
}
