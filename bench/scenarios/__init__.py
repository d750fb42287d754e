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
    one_of_each,
    package_import,
    publish,
    random_access,
    small_opens,
    sourced_shell,
    stat_storm,
    tar,
    ten_clients,
    ten_programs,
    untuned,
)

ALL: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        mount.SCENARIO,
        json_tool.SCENARIO,
        module_avail.SCENARIO,
        package_import.SCENARIO,
        sourced_shell.SCENARIO,
        stat_storm.SCENARIO,
        find.SCENARIO,
        tar.SCENARIO,
        small_opens.SCENARIO,
        one_of_each.SCENARIO,
        random_access.SCENARIO,
        big_file_sequential.SCENARIO,
        big_file_random.SCENARIO,
        huge_directory.SCENARIO,
        ten_clients.SCENARIO,
        ten_programs.SCENARIO,
        new_revision.SCENARIO,
        *untuned.SCENARIOS,
        publish.SCENARIO,
    )
}
